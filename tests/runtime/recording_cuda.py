"""CUDA as a fake that records: memory is the host's, every call is noted, and the Nth can fail."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from edgekit.runtime.cuda import cuda_error

GPU, SM = "Fake Orin", (8, 7)


class RecordingCuda:
    """A `CudaApi` whose streams run at once. `live` holds what was taken and not given back, as "kind number"."""

    name = "recording"

    def __init__(self, *, fail_at: int | None = None, devices: int = 1) -> None:
        self.calls: list[str] = []  # TensorRT's fake adds its own
        self.count = 0  # of calls to this fake
        self.failed: str | None = None  # the call that did
        self.live: set[str] = set()
        self.closed = 0
        self.sizes: list[int] = []
        self._fail_at = fail_at
        self._devices = devices
        self._memory: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self._next = 100
        self._capture: list[Callable[[], None]] | None = None
        self._graphs: dict[int, list[Callable[[], None]]] = {}
        self._clock_ms = 0.0
        self._recorded: dict[int, float] = {}

    def enqueue(self, work: Callable[[], None]) -> None:
        """What TensorRT does on a stream: run it now, or keep it in the graph that is captured."""
        if self._capture is None:
            work()
        else:
            self._capture.append(work)

    def device_count(self) -> int:
        self._note("device_count")
        return self._devices

    def device_name(self) -> str:
        self._note("device_name")
        return GPU

    def compute_capability(self) -> tuple[int, int]:
        self._note("compute_capability")
        return SM

    def driver_version(self) -> int:
        self._note("driver_version")
        return 12060

    def runtime_version(self) -> int:
        self._note("runtime_version")
        return 12060

    def enter(self) -> None:
        self._note("enter")

    def allocate(self, size: int) -> int:
        return self._allocate("device", size)

    def free(self, pointer: int) -> None:
        self._give_back("device", pointer, "free")

    def allocate_pinned(self, size: int) -> int:
        return self._allocate("pinned", size)

    def free_pinned(self, pointer: int) -> None:
        self._give_back("pinned", pointer, "free_pinned")

    def copy_to_device(self, device: int, pinned: int, size: int, stream: int) -> None:
        self._note("copy_to_device")
        ctypes.memmove(device, pinned, size)

    def copy_to_host(self, pinned: int, device: int, size: int, stream: int) -> None:
        self._note("copy_to_host")
        ctypes.memmove(pinned, device, size)

    def create_stream(self) -> int:
        return self._take("stream", "create_stream")

    def synchronize(self, stream: int) -> None:
        self._note(f"synchronize {stream}" if f"stream {stream}" not in self.live else "synchronize")

    def destroy_stream(self, stream: int) -> None:
        self._give_back("stream", stream, "destroy_stream")

    def create_event(self) -> int:
        return self._take("event", "create_event")

    def record(self, event: int, stream: int) -> None:
        self._note("record")
        self._clock_ms += 0.5
        self._recorded[event] = self._clock_ms

    def elapsed_ms(self, start: int, end: int) -> float:
        self._note("elapsed_ms")
        return self._recorded[end] - self._recorded[start]

    def destroy_event(self, event: int) -> None:
        self._give_back("event", event, "destroy_event")

    def begin_capture(self, stream: int) -> None:
        self._note("begin_capture")
        self._capture = []

    def end_capture(self, stream: int) -> int:
        assert self._capture is not None
        work, self._capture = self._capture, None
        graph = self._take("graph", "end_capture")
        self._graphs[graph] = work
        return graph

    def instantiate(self, graph: int) -> int:
        executable = self._take("executable", "instantiate")
        self._graphs[executable] = self._graphs[graph]
        return executable

    def launch(self, executable: int, stream: int) -> None:
        self._note("launch")
        for work in self._graphs[executable]:
            work()

    def destroy_executable(self, executable: int) -> None:
        self._give_back("executable", executable, "destroy_executable")

    def destroy_graph(self, graph: int) -> None:
        self._give_back("graph", graph, "destroy_graph")

    def close(self) -> None:
        self.closed += 1
        self._note("close")

    def _allocate(self, kind: str, size: int) -> int:
        self._note(f"allocate {kind}")
        self.sizes.append(size)
        memory = ctypes.create_string_buffer(size)
        self._memory[ctypes.addressof(memory)] = memory
        self.live.add(f"{kind} {ctypes.addressof(memory)}")
        return ctypes.addressof(memory)

    def _take(self, kind: str, call: str) -> int:
        self._note(call)
        self._next += 1
        self.live.add(f"{kind} {self._next}")
        return self._next

    def _give_back(self, kind: str, number: int, call: str) -> None:
        self.live.remove(f"{kind} {number}")  # KeyError: given back twice, or never taken
        self._graphs.pop(number, None)
        self._note(call)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self.count += 1
        if self._fail_at == self.count:
            self.failed = call
            raise cuda_error("cudaErrorUnknown", 999, f"call {self.count}, {call}")
