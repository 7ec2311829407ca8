"""Work that is enqueued again and again, as one CUDA graph where it can be."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edgekit.errors import EngineError
from edgekit.runtime.cuda import CudaApi

log = logging.getLogger(__name__)


class Repeated:
    """Enqueues by a call the first time, which lets TensorRT settle, and by a captured graph from the second on.

    Work that cannot be captured is enqueued by its call every time, and `refused` says why.
    """

    def __init__(self, cuda: CudaApi, stream: int, enqueue: Callable[[], None]) -> None:
        self.refused: str | None = None
        self._cuda = cuda
        self._stream = stream
        self._enqueue = enqueue
        self._settled = False
        self._executable = 0

    @property
    def captured(self) -> bool:
        """True when the next run launches a graph."""
        return self._executable != 0

    def run(self) -> None:
        """Enqueue once. Raises EngineError."""
        if self._settled and not self._executable and self.refused is None:
            self._capture()
        if self._executable:
            self._cuda.launch(self._executable, self._stream)
        else:
            self._enqueue()
        self._settled = True

    def reset(self) -> None:
        """Forget the graph: shapes or addresses change."""
        executable, self._executable, self._settled = self._executable, 0, False
        if executable:
            self._cuda.destroy_executable(executable)

    def _capture(self) -> None:
        try:
            graph = self._recorded()
            try:
                self._executable = self._cuda.instantiate(graph)
            finally:
                self._cuda.destroy_graph(graph)
        except EngineError as problem:
            self.refused = str(problem)
            log.info("no CUDA graph: %s", problem)

    def _recorded(self) -> int:
        self._cuda.begin_capture(self._stream)
        try:
            self._enqueue()
        except BaseException:
            self._abandon()
            raise
        return self._cuda.end_capture(self._stream)

    def _abandon(self) -> None:
        """A stream stays in capture until that is ended, also when what it recorded is worth nothing."""
        try:
            self._cuda.destroy_graph(self._cuda.end_capture(self._stream))
        except EngineError as problem:
            log.debug("the broken capture ended: %s", problem)
