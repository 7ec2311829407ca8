"""CUDA through NVIDIA's cuda-python, 12.6 and newer: `from cuda.bindings import runtime`."""

from __future__ import annotations

from typing import Any  # Any: cuda-python's module and what its functions return, which have no types

from edgekit.errors import EngineError
from edgekit.runtime.cuda import CudaApi, cuda_error

_DEVICE = 0
_DOING = {
    "cudaGetDeviceCount": "looking for a GPU",
    "cudaMalloc": "taking memory of the GPU",
    "cudaMallocHost": "taking pinned memory",
    "cudaMemcpyAsync": "copying",
    "cudaStreamSynchronize": "waiting for the GPU",
    "cudaStreamEndCapture": "ending a capture",
}


def open_cuda() -> CudaApi:
    """Import the binding. Raises EngineError when its library cannot be loaded."""
    try:
        from cuda.bindings import runtime
    except (ImportError, RuntimeError, OSError) as problem:
        raise EngineError(f"cuda-python cannot be loaded: {problem}") from problem
    return CudaPython(runtime)


class CudaPython:
    """The functions of the CUDA runtime."""

    name = "cuda-python"

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def device_count(self) -> int:
        """GPUs that are visible."""
        return int(self._call("cudaGetDeviceCount"))

    def device_name(self) -> str:
        """The name that the driver gives."""
        name: bytes = self._call("cudaGetDeviceProperties", _DEVICE).name
        return name.split(b"\0")[0].decode(errors="replace")

    def compute_capability(self) -> tuple[int, int]:
        """Major and minor."""
        kinds = self._runtime.cudaDeviceAttr
        major, minor = kinds.cudaDevAttrComputeCapabilityMajor, kinds.cudaDevAttrComputeCapabilityMinor
        asked = [self._call("cudaDeviceGetAttribute", kind, _DEVICE) for kind in (major, minor)]
        return int(asked[0]), int(asked[1])

    def driver_version(self) -> int:
        """12060 is 12.6."""
        return int(self._call("cudaDriverGetVersion"))

    def runtime_version(self) -> int:
        """12060 is 12.6."""
        return int(self._call("cudaRuntimeGetVersion"))

    def enter(self) -> None:
        """Make the GPU current in this thread."""
        self._call("cudaSetDevice", _DEVICE)

    def allocate(self, size: int) -> int:
        """Memory on the GPU."""
        return int(self._call("cudaMalloc", size))

    def free(self, pointer: int) -> None:
        """Give it back."""
        self._call("cudaFree", pointer)

    def allocate_pinned(self, size: int) -> int:
        """Pinned memory of the host."""
        return int(self._call("cudaMallocHost", size))

    def free_pinned(self, pointer: int) -> None:
        """Give it back."""
        self._call("cudaFreeHost", pointer)

    def copy_to_device(self, device: int, pinned: int, size: int, stream: int) -> None:
        """Begin a copy."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", device, pinned, size, kind, stream)

    def copy_to_host(self, pinned: int, device: int, size: int, stream: int) -> None:
        """Begin a copy."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", pinned, device, size, kind, stream)

    def create_stream(self) -> int:
        """A blocking stream: the legacy default stream's work comes before its own."""
        return int(self._call("cudaStreamCreate"))

    def synchronize(self, stream: int) -> None:
        """Wait for a stream."""
        self._call("cudaStreamSynchronize", stream)

    def destroy_stream(self, stream: int) -> None:
        """Give it back."""
        self._call("cudaStreamDestroy", stream)

    def create_event(self) -> int:
        """An event that keeps its time."""
        return int(self._call("cudaEventCreate"))

    def record(self, event: int, stream: int) -> None:
        """Take the time on a stream."""
        self._call("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Between two events."""
        return float(self._call("cudaEventElapsedTime", start, end))

    def destroy_event(self, event: int) -> None:
        """Give it back."""
        self._call("cudaEventDestroy", event)

    def begin_capture(self, stream: int) -> None:
        """Capture what this thread enqueues; other threads go on as they were."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> int:
        """The graph."""
        return int(self._call("cudaStreamEndCapture", stream))

    def instantiate(self, graph: int) -> int:
        """An executable of a graph."""
        return int(self._call("cudaGraphInstantiate", graph, 0))

    def launch(self, executable: int, stream: int) -> None:
        """Run a graph."""
        self._call("cudaGraphLaunch", executable, stream)

    def destroy_executable(self, executable: int) -> None:
        """Give it back."""
        self._call("cudaGraphExecDestroy", executable)

    def destroy_graph(self, graph: int) -> None:
        """Give it back."""
        self._call("cudaGraphDestroy", graph)

    def close(self) -> None:
        """Nothing: the primary context is the process's."""

    def _call(self, function: str, *arguments: object) -> Any:
        status, *results = getattr(self._runtime, function)(*arguments)
        if int(status):
            raise cuda_error(status.name, int(status), _DOING.get(function, f"calling {function}"))
        return results[0] if results else None
