"""The application of some services: every router's routes behind one ASGI callable."""

from __future__ import annotations

from bowerbird.declare.sizes import size_bytes
from bowerbird.server.application import Application
from bowerbird.server.routers.entities import EntitiesRouter
from bowerbird.server.routers.events import EventsRouter
from bowerbird.server.routers.features import FeaturesRouter
from bowerbird.server.routers.inference import InferenceRouter
from bowerbird.server.routers.models import ModelsRouter
from bowerbird.server.routers.scenes import ScenesRouter
from bowerbird.server.routers.system import SystemRouter
from bowerbird.server.services import Services
from bowerbird.server.web.body_memory import BodyMemory
from bowerbird.server.web.routing import Router


def build_application(services: Services) -> Application:
    """Return the ASGI application of some services."""
    system = SystemRouter(services)
    nouns = (
        ScenesRouter(services),
        EventsRouter(services),
        EntitiesRouter(services),
        FeaturesRouter(services),
        ModelsRouter(services),
        InferenceRouter(services),
    )
    routes = [route for noun in nouns for route in noun.routes()] + system.routes()
    system.describe(routes)
    settings = services.workspace.settings.server
    memory = BodyMemory(size_bytes(settings.body_memory))
    return Application(Router(routes), services.keys, settings.body_limit, memory, services.observer)
