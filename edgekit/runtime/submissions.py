"""Runs that are asked for now and done later: a bounded queue and one thread of a session."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from edgekit.errors import EngineError
from edgekit.tensors import Array

Outputs = dict[str, Array]
Work = Callable[[Mapping[str, Array], bool], Outputs]  # inputs, and whether they are raw


class Pending:
    """The outputs of one submitted run, once they are there."""

    def __init__(self, inputs: Mapping[str, Array], *, raw: bool) -> None:
        """Use `Session.submit`."""
        self._inputs: Mapping[str, Array] | None = inputs
        self._raw = raw
        self._ended = threading.Event()
        self._outputs: Outputs | None = None
        self._problem: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether `result` returns, or raises, at once."""
        return self._ended.is_set()

    def result(self, timeout_s: float | None = None) -> Outputs:
        """Wait for the outputs. Raises what `run` would have; TimeoutError, after which one may wait again."""
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"no result within {timeout_s} s")
        if self._problem is not None:
            raise self._problem
        assert self._outputs is not None
        return self._outputs

    def work(self, run: Work) -> None:
        """Run it, and keep whatever comes."""
        assert self._inputs is not None
        try:
            self._outputs = run(self._inputs, self._raw)
        except BaseException as problem:  # it belongs to whoever asks for the result
            self._problem = problem
        self._inputs = None
        self._ended.set()

    def fail(self, problem: EngineError) -> None:
        """It will not be run."""
        self._problem, self._inputs = problem, None
        self._ended.set()


class Submissions:
    """Takes runs and does them in their order, one at a time, until it is closed."""

    def __init__(self, run: Work, *, size: int, where: str) -> None:
        self._run = run
        self._size = size
        self._where = where
        self._waiting: deque[Pending] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"edgekit {where}", daemon=True)
        self._thread.start()

    def submit(self, pending: Pending, *, wait_s: float | None) -> None:
        """Queue it. Raises EngineError when there is no room within `wait_s`, or it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._size, wait_s)
            if self._closed:
                raise self._gone()
            if len(self._waiting) >= self._size:
                raise EngineError(
                    f"{self._where}: {self._size} runs are waiting already: take results first, or open with a larger "
                    "queue_size"
                )
            self._waiting.append(pending)
            self._changed.notify_all()

    def close(self) -> None:
        """Let the run under way end; those that wait fail."""
        with self._changed:
            self._closed = True
            dropped = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for pending in dropped:
            pending.fail(self._gone())
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                pending = self._waiting.popleft()
                self._changed.notify_all()
            pending.work(self._run)

    def _gone(self) -> EngineError:
        return EngineError(f"{self._where}: the session was closed before this ran")
