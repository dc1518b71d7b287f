"""The Open Inference Protocol over gRPC, on the event loop of the HTTP server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

import grpc

from bowerbird.errors import BowerbirdError, UnavailableError
from bowerbird.server.inference.describe import model_metadata, server_metadata
from bowerbird.server.inference.grpc_call import inference_of, response_of
from bowerbird.server.inference.grpc_messages import MESSAGES, SERVICE
from bowerbird.server.inference.service import InferenceService
from bowerbird.server.services import Services
from bowerbird.server.web.problems import known_error
from bowerbird.server.web.request_id import new_request_id

Answer = Callable[[Any, Any], Awaitable[Any]]
"""From a message and the call's context to a message."""
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_OPEN = ("ServerLive", "ServerReady", "ServerMetadata")
"""What needs no API key, as over HTTP."""


class GrpcServer:
    """Serves GRPCInferenceService at ``host:port``; port 0 takes a free one."""

    def __init__(self, services: Services, host: str, port: int) -> None:
        self._services = services
        self._inference = InferenceService(services)
        self._host = f"[{host}]" if ":" in host else host
        self._wanted = f"{self._host}:{port}"
        self._bound: Future[str] = Future()
        self._server: Any = None

    def address(self) -> str:
        """Wait until the server listens and return its ``host:port``; empty where it does not."""
        return self._bound.result()

    async def start(self) -> None:
        """Listen; raises UnavailableError for an address in use."""
        limit = self._services.workspace.settings.server.body_limit
        options = [("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        try:
            port = self._server.add_insecure_port(self._wanted)
        except RuntimeError as error:
            self._bound.set_result("")
            raise UnavailableError(
                f"The server cannot listen at {self._wanted}: {error}.", "Stop what uses it, or choose --grpc-port."
            ) from error
        await self._server.start()
        self._bound.set_result(f"{self._host}:{port}")

    async def stop(self, seconds: float) -> None:
        """Take no new calls, and let those in flight end for so long."""
        if self._server is not None:
            await self._server.stop(seconds)

    def _handlers(self) -> Any:
        answers: dict[str, Answer] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(name, answer),
                request_deserializer=MESSAGES[f"{name}Request"].FromString,
                response_serializer=MESSAGES[f"{name}Response"].SerializeToString,
            )
            for name, answer in answers.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _guarded(self, name: str, answer: Answer) -> Callable[[Any, Any], Awaitable[Any]]:
        label = f"gRPC {name}"

        async def handle(request: Any, context: Any) -> Any:
            started = time.perf_counter()
            response, error = await self._answer(name, answer, request, context)
            status = HTTPStatus.OK if error is None else HTTPStatus(error.status)
            self._services.metrics.requests.labels(label, status).inc()
            self._services.metrics.seconds.labels(label).observe(time.perf_counter() - started)
            if error is not None:
                await context.abort(_CODES.get(error.status, grpc.StatusCode.INTERNAL), str(error))
            return response

        return handle

    async def _answer(
        self, name: str, answer: Answer, request: Any, context: Any
    ) -> tuple[Any, None] | tuple[None, BowerbirdError]:
        try:
            if name not in _OPEN:
                headers = {key.encode(): _bytes(value) for key, value in context.invocation_metadata()}
                self._services.keys.authorise(headers, "read")
            return await answer(request, context), None
        except Exception as error:
            return None, known_error(error, new_request_id())

    async def _live(self, request: Any, context: Any) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, request: Any, context: Any) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=self._inference.ready)

    async def _metadata(self, request: Any, context: Any) -> Any:
        found = server_metadata()
        return MESSAGES["ServerMetadataResponse"](name=found.name, version=found.version, extensions=found.extensions)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        try:
            self._inference.signature(self._inference.scene(request.name), request.version)
        except BowerbirdError:
            return MESSAGES["ModelReadyResponse"](ready=False)
        return MESSAGES["ModelReadyResponse"](ready=True)

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        scene = self._inference.scene(request.name)
        found = model_metadata(scene.name, self._inference.signature(scene, request.version))
        response = MESSAGES["ModelMetadataResponse"](name=found.name, versions=found.versions, platform=found.platform)
        for tensors, described in ((response.inputs, found.inputs), (response.outputs, found.outputs)):
            for each in described:
                tensors.add(name=each.name, datatype=each.datatype, shape=each.shape)
        return response

    async def _infer(self, request: Any, context: Any) -> Any:
        scene, now = self._inference.scene(request.model_name), time.monotonic()
        seconds = context.time_remaining()
        deadline = now + (scene.deadline_seconds if seconds is None else seconds)
        work = self._inference.work(scene, request.ByteSize(), now, deadline)
        return await self._services.pool.run(work, lambda waited: self._score(request, waited))

    def _score(self, request: Any, waited: float) -> Any:
        return response_of(self._inference.infer(inference_of(request), waited), request)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
