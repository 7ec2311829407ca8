"""`submit` and `result`: a bounded queue, and closing with work in flight."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ConfigError, DataError, EngineError
from edgekit.runtime import Session, open_bundle
from tests.tiny_models import IMAGES

WAIT_S = 30.0  # longer than anything here takes


class Gate:
    """Holds every run of a session until it is opened."""

    def __init__(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.opened = threading.Semaphore(0), threading.Event()
        runner = session._runner
        assert runner is not None
        self._run = runner.run
        monkeypatch.setattr(runner, "run", self._held)

    def _held(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        self.entered.release()
        assert self.opened.wait(WAIT_S)
        return self._run(arrays)


@pytest.fixture
def session(tiny_bundle: Path) -> Iterator[Session]:
    with open_bundle(tiny_bundle, variant="onnx-fp32", queue_size=2) as opened:
        yield opened


@pytest.fixture
def gate(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(session, monkeypatch)
    yield made
    made.opened.set()


def image(index: int) -> dict[str, np.ndarray]:
    return {"image": IMAGES[index : index + 1]}


def test_results_are_those_of_run(session: Session) -> None:
    pending = [session.submit(image(index)) for index in range(8)]
    for index, item in enumerate(pending):
        np.testing.assert_array_equal(item.result(WAIT_S)["scores"], session.run(image(index))["scores"])
        assert item.done


def test_what_is_wrong_with_the_inputs_is_the_results(session: Session) -> None:
    wrong, right = session.submit({"imag": IMAGES}), session.submit(image(0))
    with pytest.raises(DataError, match="unknown input 'imag'"):
        wrong.result(WAIT_S)
    assert right.result(WAIT_S)["scores"].shape == (1, 3)


def test_the_queue_is_bounded(session: Session, gate: Gate) -> None:
    running = session.submit(image(0))
    assert gate.entered.acquire(timeout=WAIT_S)
    waiting = [session.submit(image(index), wait_s=0) for index in (1, 2)]
    for wait_s in (0, 0.01):
        with pytest.raises(EngineError, match="2 runs are waiting already: take results first, or open with a larger"):
            session.submit(image(3), wait_s=wait_s)
    assert not running.done
    with pytest.raises(TimeoutError, match=r"no result within 0.01 s"):
        running.result(0.01)
    gate.opened.set()
    for item in (running, *waiting):
        assert item.result(WAIT_S)["scores"].shape == (1, 3)


def test_closing_ends_the_run_under_way_and_drops_what_waits(session: Session, gate: Gate) -> None:
    running = session.submit(image(0))
    assert gate.entered.acquire(timeout=WAIT_S)
    waiting = session.submit(image(1))
    closer = threading.Thread(target=session.close)
    closer.start()
    with pytest.raises(EngineError, match="the session was closed before this ran"):
        waiting.result(WAIT_S)
    assert closer.is_alive()  # it waits for the run under way
    gate.opened.set()
    closer.join(WAIT_S)
    assert running.result(WAIT_S)["scores"].shape == (1, 3)
    with pytest.raises(EngineError, match="the session is closed"):
        session.submit(image(0))


def test_a_submitter_that_waits_for_room_hears_of_the_closing(session: Session, gate: Gate) -> None:
    session.submit(image(0))
    assert gate.entered.acquire(timeout=WAIT_S)
    told: list[str] = []

    def fill() -> None:
        try:
            for _ in range(4):
                session.submit(image(1)).result(WAIT_S)
        except EngineError as problem:
            told.append(str(problem))

    threads = [threading.Thread(target=fill) for _ in range(6)]
    for thread in threads:
        thread.start()
    closer = threading.Thread(target=session.close)
    closer.start()
    gate.opened.set()
    for thread in (*threads, closer):
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert len(told) == 6
    assert all("closed" in words for words in told)


def test_closing_while_others_run(tiny_bundle: Path) -> None:
    """Whoever runs gets a result, or is told that the session is closed: no crash, and nothing else."""
    for _ in range(20):
        session = open_bundle(tiny_bundle, variant="tflite-int8")
        wrong: list[object] = []
        started = threading.Barrier(5)

        def work(session: Session = session, wrong: list[object] = wrong, started: threading.Barrier = started) -> None:
            started.wait(WAIT_S)
            try:
                while True:
                    if session.run(image(0))["scores"].shape != (1, 3):
                        wrong.append("shape")
            except EngineError as problem:
                if "the session is closed" not in str(problem):
                    wrong.append(problem)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait(WAIT_S)
        closers = [threading.Thread(target=session.close) for _ in range(2)]
        for thread in closers:
            thread.start()
        for thread in (*threads, *closers):
            thread.join(WAIT_S)
            assert not thread.is_alive()
        assert wrong == []


def test_no_queue(tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="queue_size is 0, expected at least 1"):
        open_bundle(tiny_bundle, queue_size=0)
