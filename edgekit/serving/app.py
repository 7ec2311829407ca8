"""The ASGI application: what is answered at which address."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgekit.errors import ConfigError, DataError, EdgekitError
from edgekit.runtime import Session
from edgekit.serving.guard import Guard
from edgekit.serving.metrics import Metrics
from edgekit.serving.models import Models, OverloadedError, ServedModel, UnknownModelError
from edgekit.serving.protocol import EXTENSIONS, JSON_LENGTH, described, read_request, write_response

_RETRY_AFTER_S = "1"
_CLIENT_GONE = 499  # nginx's number; nobody is there to read it
_STATUS = ((OverloadedError, 503), (UnknownModelError, 404), (DataError, 400), (EdgekitError, 500))


@dataclass(frozen=True)
class Limits:
    """Of one request."""

    body_bytes: int = 16 << 20
    body_seconds: float = 30.0  # until all of it has come

    def __post_init__(self) -> None:
        if self.body_bytes < 1:
            raise ConfigError(f"the largest body is {self.body_bytes} bytes, expected 1 or more")


def make_app(models: Models, *, token: str | None, limits: Limits) -> Starlette:
    """The application for opened models."""
    answers = _Answers(models, Metrics(models), limits)
    routes = [
        Route("/v2/health/live", answers.live),
        Route("/v2/health/ready", answers.ready),
        Route("/v2", answers.server),
        Route("/metrics", answers.metrics),
    ]
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes.append(Route(model, answers.model))
        routes.append(Route(f"{model}/ready", answers.model_ready))
        routes.append(Route(f"{model}/infer", answers.infer, methods=["POST"]))
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=token)],
        exception_handlers={
            EdgekitError: _said,
            HTTPException: _said_by_starlette,
            Exception: _unexpected,
        },
    )


class _Answers:
    """One method for each address."""

    def __init__(self, models: Models, metrics: Metrics, limits: Limits) -> None:
        self._models, self._metrics, self._limits = models, metrics, limits

    async def live(self, _request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, _request: Request) -> Response:
        return JSONResponse({"ready": True})  # models are open before the port is

    async def server(self, _request: Request) -> Response:
        return JSONResponse({"name": "edgekit", "version": version("edgekit"), "extensions": EXTENSIONS})

    async def metrics(self, _request: Request) -> Response:
        page = self._metrics.page()
        return Response(page.content, media_type=page.media_type)

    async def model(self, request: Request) -> Response:
        model = self._find(request)
        name = model.manifest.name
        return JSONResponse(
            {
                "name": name,
                "versions": self._models.versions(name),
                "platform": f"{model.choice.engine}_{model.format}",
                "inputs": described(model.inputs),
                "outputs": described(model.outputs),
            }
        )

    async def model_ready(self, request: Request) -> Response:
        return JSONResponse({"name": self._find(request).manifest.name, "ready": True})

    async def infer(self, request: Request) -> Response:
        model = self._find(request)
        start = perf_counter()
        code = 500
        try:
            with model.admitted():
                body = await self._body(request)
                length = request.headers.get(JSON_LENGTH)
                content, headers = await model.work(lambda session: self._inferred(model, session, body, length))
            code = 200
            return Response(content, headers=headers)
        except EdgekitError as problem:
            code = _status(problem)
            raise
        except HTTPException as problem:
            code = problem.status_code
            raise
        finally:
            self._metrics.answered(model, code, perf_counter() - start)

    def _inferred(
        self, model: ServedModel, session: Session, body: bytearray, length: str | None
    ) -> tuple[bytes, dict[str, str]]:
        """In a worker's thread: JSON of a large body takes its time, too."""
        request, arrays = read_request(memoryview(body), length)
        with self._metrics.inference(model):
            outputs = session.run(_prepared(session, arrays, request.inputs_to_preprocess))
        return write_response(request, outputs, model=model.manifest.name, version=model.manifest.version)

    def _find(self, request: Request) -> ServedModel:
        return self._models.find(request.path_params["name"], request.path_params.get("version"))

    async def _body(self, request: Request) -> bytearray:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise HTTPException(415, f"Content-Encoding is '{encoding}', expected none")
        most = self._limits.body_bytes
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > most:
            raise HTTPException(413, f"the body has {announced} bytes, at most {most} are taken")
        try:
            return await asyncio.wait_for(_read(request, most), self._limits.body_seconds)
        except asyncio.TimeoutError as problem:
            raise HTTPException(408, f"the body did not come within {self._limits.body_seconds:g} s") from problem
        except ClientDisconnect as problem:
            raise HTTPException(_CLIENT_GONE, "the client has gone") from problem


async def _read(request: Request, most: int) -> bytearray:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"the body has more than {most} bytes")
    return body


def _prepared(session: Session, arrays: Mapping[str, Any], raw: frozenset[str]) -> Mapping[str, Any]:
    if not raw:
        return arrays
    prepared = session.preprocess({name: array for name, array in arrays.items() if name in raw})
    return {**arrays, **prepared}


def _status(problem: EdgekitError) -> int:
    return next(status for kind, status in _STATUS if isinstance(problem, kind))


async def _said(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, EdgekitError)
    status = _status(problem)
    return JSONResponse({"error": str(problem)}, status, {"Retry-After": _RETRY_AFTER_S} if status == 503 else None)


async def _said_by_starlette(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    return JSONResponse({"error": problem.detail}, problem.status_code, problem.headers)


async def _unexpected(_request: Request, _problem: Exception) -> Response:
    """A bug of ours: Starlette raises it again, and uvicorn logs its traceback."""
    return JSONResponse({"error": "internal error; the server's log says which"}, 500)
