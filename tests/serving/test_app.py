"""The application without a network, where time can be held still."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edgekit.errors import EngineError
from edgekit.runtime import Session
from edgekit.serving.app import Limits, make_app
from edgekit.serving.models import Capacity, Models, opened_models

INFER = "/v2/models/tiny/infer"
REQUEST = {"inputs": [{"name": "image", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}]}


def client(models: Models, limits: Limits | None = None) -> httpx.AsyncClient:
    app = make_app(models, token=None, limits=limits or Limits())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def test_an_overload_is_refused_at_once_and_passes(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers, three places to wait, twelve clients: seven are told to come back."""
    go = threading.Event()
    run = Session.run

    def held(self: Session, inputs: Any) -> Any:
        assert go.wait(30)
        return run(self, inputs)

    monkeypatch.setattr(Session, "run", held)

    async def clients(models: Models) -> list[httpx.Response]:
        async with client(models) as http:
            waiting = [asyncio.ensure_future(http.post(INFER, json=REQUEST)) for _ in range(12)]
            refused = 0
            while refused < 7:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=0.05)
                refused = sum(task.done() for task in waiting)
            go.set()
            answers = [await task for task in waiting]
            assert (await http.post(INFER, json=REQUEST)).status_code == 200
            assert models.all[0].in_flight == 0
            return answers

    with opened_models([bundle], Capacity(workers=2, queue=3)) as models:
        answers = asyncio.run(clients(models))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [503] * 7
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
            assert answer.json() == {"error": "5 requests are under way, as many as may be: try again later"}


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (EngineError("the engine gave up"), "the engine gave up"),
        (ZeroDivisionError("a bug"), "internal error; the server's log says which"),
    ],
)
def test_a_failure_of_the_engine_is_ours(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, said: str
) -> None:
    def fail(self: Session, inputs: Any) -> Any:
        raise raised

    monkeypatch.setattr(Session, "run", fail)

    async def ask(models: Models) -> tuple[httpx.Response, str]:
        async with client(models) as http:
            return await http.post(INFER, json=REQUEST), (await http.get("/metrics")).text

    with opened_models([bundle], Capacity()) as models:
        answer, page = asyncio.run(ask(models))
        assert (answer.status_code, answer.json()) == (500, {"error": said})
        assert 'edgekit_requests_total{code="500",model="tiny",version="1.0.0"} 1.0' in page
        assert models.all[0].in_flight == 0


def test_json_cannot_say_nan_and_binary_can(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "run", lambda self, inputs: {"scores": np.array([[np.nan]], np.float32)})

    async def ask(models: Models, request: dict[str, Any]) -> httpx.Response:
        async with client(models) as http:
            return await http.post(INFER, json=request)

    with opened_models([bundle], Capacity()) as models:
        answer = asyncio.run(ask(models, REQUEST))
        assert (answer.status_code, "ask for binary_data" in answer.json()["error"]) == (500, True)
        answer = asyncio.run(ask(models, {**REQUEST, "parameters": {"binary_data_output": True}}))
        assert answer.status_code == 200


def test_a_body_that_does_not_come(bundle: Path) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async def ask(models: Models) -> httpx.Response:
        async with client(models, Limits(body_seconds=0.05)) as http:
            return await http.post(INFER, content=slow())

    with opened_models([bundle], Capacity()) as models:
        answer = asyncio.run(ask(models))
        assert (answer.status_code, answer.json()) == (408, {"error": "the body did not come within 0.05 s"})
        assert models.all[0].in_flight == 0
