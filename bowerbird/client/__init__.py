"""The Python client of a Bowerbird server, synchronous and asynchronous."""

from bowerbird.client.async_client import AsyncClient
from bowerbird.client.client import Client
from bowerbird.client.retries import Retries

__all__ = ["AsyncClient", "Client", "Retries"]
