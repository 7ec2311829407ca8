"""CUDA through pycuda, where a board has it and not cuda-python; in the primary context, which TensorRT uses too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar  # Any: pycuda's module and objects, which have no types

from edgekit.errors import EngineError
from edgekit.runtime.cuda import CudaApi

_DEVICE = 0
_NO_GRAPHS = "this pycuda has no CUDA graphs"

T = TypeVar("T")


def open_cuda() -> CudaApi:
    """Import pycuda and ask the driver. Raises EngineError when either fails."""
    try:
        driver: Any = import_module("pycuda.driver")  # needs libcuda, so it fails where there is no driver
    except (ImportError, OSError) as problem:
        raise EngineError(f"pycuda cannot be loaded: {problem}; install the driver, or cuda-python") from problem
    return CudaPycuda(driver)


class CudaPycuda:
    """pycuda's objects, kept under the numbers that stand for them."""

    name = "pycuda"

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._kept: dict[int, Any] = {}  # by pointer or handle
        self._context: Any = None
        self._threads: set[int] = set()  # where the context is current
        self._ask("starting the driver", driver.init)

    def device_count(self) -> int:
        """GPUs that are visible."""
        return int(self._ask("looking for a GPU", self._driver.Device.count))

    def device_name(self) -> str:
        """The name that the driver gives."""
        return str(self._ask("asking for its name", self._driver.Device(_DEVICE).name))

    def compute_capability(self) -> tuple[int, int]:
        """Major and minor."""
        major, minor = self._ask("asking what it can", self._driver.Device(_DEVICE).compute_capability)
        return int(major), int(minor)

    def driver_version(self) -> int:
        """12060 is 12.6."""
        return int(self._driver.get_driver_version())

    def runtime_version(self) -> int:
        """12060 is 12.6."""
        major, minor, _ = self._driver.get_version()
        return int(major * 1000 + minor * 10)

    def enter(self) -> None:
        """Make the primary context current in this thread."""
        if self._context is None:
            device = self._driver.Device(_DEVICE)
            self._context = self._ask("taking the primary context", device.retain_primary_context)
        if threading.get_ident() not in self._threads:
            self._ask("entering the primary context", self._context.push)
            self._threads.add(threading.get_ident())

    def allocate(self, size: int) -> int:
        """Memory on the GPU."""
        self.enter()
        memory = self._ask("taking memory of the GPU", lambda: self._driver.mem_alloc(size))
        return self._keep(int(memory), memory)

    def free(self, pointer: int) -> None:
        """Give it back."""
        self._ask("freeing memory of the GPU", self._kept.pop(pointer).free)

    def allocate_pinned(self, size: int) -> int:
        """Pinned memory of the host."""
        self.enter()
        array = self._ask("taking pinned memory", lambda: self._driver.pagelocked_empty(size, "uint8"))
        return self._keep(array.ctypes.data, array)

    def free_pinned(self, pointer: int) -> None:
        """Give it back."""
        self._ask("freeing pinned memory", self._kept.pop(pointer).base.free)

    def copy_to_device(self, device: int, pinned: int, size: int, stream: int) -> None:
        """Begin a copy."""
        source, on = self._kept[pinned][:size], self._kept[stream]
        self._ask("copying", lambda: self._driver.memcpy_htod_async(device, source, on))

    def copy_to_host(self, pinned: int, device: int, size: int, stream: int) -> None:
        """Begin a copy."""
        target, on = self._kept[pinned][:size], self._kept[stream]
        self._ask("copying", lambda: self._driver.memcpy_dtoh_async(target, device, on))

    def create_stream(self) -> int:
        """A blocking stream."""
        self.enter()
        stream = self._ask("making a stream", self._driver.Stream)
        return self._keep(int(stream.handle), stream)

    def synchronize(self, stream: int) -> None:
        """Wait for a stream; for another library's by waiting for all, since pycuda takes its own alone."""
        if stream in self._kept:
            self._ask("waiting for the GPU", self._kept[stream].synchronize)
        else:
            self._ask("waiting for the GPU", self._driver.Context.synchronize)

    def destroy_stream(self, stream: int) -> None:
        """Give it back: pycuda destroys what nobody holds."""
        del self._kept[stream]

    def create_event(self) -> int:
        """An event that keeps its time."""
        self.enter()
        event = self._ask("making an event", self._driver.Event)
        return self._keep(id(event), event)

    def record(self, event: int, stream: int) -> None:
        """Take the time on a stream."""
        self._ask("recording an event", lambda: self._kept[event].record(self._kept[stream]))

    def elapsed_ms(self, start: int, end: int) -> float:
        """Between two events."""
        return float(self._ask("reading an event", lambda: self._kept[start].time_till(self._kept[end])))

    def destroy_event(self, event: int) -> None:
        """Give it back: pycuda destroys what nobody holds."""
        del self._kept[event]

    def begin_capture(self, stream: int) -> None:
        """Capture, where this pycuda can."""
        if not hasattr(self._kept[stream], "begin_capture"):
            raise EngineError(_NO_GRAPHS)
        self._ask("beginning a capture", self._kept[stream].begin_capture)

    def end_capture(self, stream: int) -> int:
        """The graph."""
        graph = self._ask("ending a capture", self._kept[stream].end_capture)
        return self._keep(id(graph), graph)

    def instantiate(self, graph: int) -> int:
        """An executable of a graph."""
        executable = self._ask("making a graph", self._kept[graph].instantiate)
        return self._keep(id(executable), executable)

    def launch(self, executable: int, stream: int) -> None:
        """Run a graph."""
        self._ask("running a graph", lambda: self._kept[executable].launch(self._kept[stream]))

    def destroy_executable(self, executable: int) -> None:
        """Give it back: pycuda destroys what nobody holds."""
        del self._kept[executable]

    def destroy_graph(self, graph: int) -> None:
        """Give it back: pycuda destroys what nobody holds."""
        del self._kept[graph]

    def close(self) -> None:
        """Leave the primary context, in this thread alone where others used it too."""
        context, self._context = self._context, None
        if context is None:
            return
        if threading.get_ident() in self._threads:
            self._ask("leaving the primary context", self._driver.Context.pop)
        self._threads.clear()
        self._ask("giving back the primary context", context.detach)

    def _keep(self, number: int, value: object) -> int:
        self._kept[number] = value
        return number

    def _ask(self, doing: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except self._driver.Error as problem:  # "cuMemAlloc failed: out of memory"
            raise EngineError(f"{problem} when {doing}") from problem
