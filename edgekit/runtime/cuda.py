"""What the TensorRT engine asks of CUDA, and which Python binding answers: cuda-python, else pycuda.

Pointers and handles are whole numbers, sizes are bytes, times are milliseconds. Every call raises EngineError that
names the driver's error and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

from edgekit.errors import EngineError

_GET = 'pip install "cuda-python>=12.6", or pip install "edgekit[pycuda]"'
_BINDINGS: Mapping[str, tuple[str, ...]] = {  # module of ours -> what it imports, packages first
    "edgekit.runtime.cuda_python": ("cuda", "cuda.bindings"),
    "edgekit.runtime.cuda_pycuda": ("pycuda",),
}
_REMEDIES = {
    "cudaErrorInsufficientDriver": "update the driver, or install a cuda-python as old as it",
    "cudaErrorNoDevice": "no GPU is visible: look at CUDA_VISIBLE_DEVICES and at the driver",
    "cudaErrorMemoryAllocation": "close other programs on the GPU, or give fewer samples at once",
    "cudaErrorNoKernelImageForDevice": "the engine is for another GPU: edgekit cache prune --all",
    "cudaErrorIllegalAddress": "the GPU's context is lost: open the session again in a new process",
    "cudaErrorSystemDriverMismatch": "restart: the driver was updated while the machine ran",
    "cudaErrorUnknown": "restart the machine if it stays",
}


class CudaApi(Protocol):
    """One GPU, the first that CUDA_VISIBLE_DEVICES leaves."""

    name: str  # of the binding: "cuda-python"

    def device_count(self) -> int:
        """GPUs that are visible."""
        ...

    def device_name(self) -> str:
        """ "Orin"."""
        ...

    def compute_capability(self) -> tuple[int, int]:
        """(8, 7)."""
        ...

    def driver_version(self) -> int:
        """The newest CUDA that the driver takes: 12060 is 12.6."""
        ...

    def runtime_version(self) -> int:
        """The CUDA that the binding was made for, in the same form."""
        ...

    def enter(self) -> None:
        """Make the GPU current in this thread; cheap when it is."""

    def allocate(self, size: int) -> int:
        """Memory on the GPU."""
        ...

    def free(self, pointer: int) -> None:
        """Give it back."""

    def allocate_pinned(self, size: int) -> int:
        """Memory of the host that the GPU copies from and to without the CPU."""
        ...

    def free_pinned(self, pointer: int) -> None:
        """Give it back."""

    def copy_to_device(self, device: int, pinned: int, size: int, stream: int) -> None:
        """Begin a copy from pinned memory."""

    def copy_to_host(self, pinned: int, device: int, size: int, stream: int) -> None:
        """Begin a copy into pinned memory."""

    def create_stream(self) -> int:
        """A stream that waits for the legacy default stream, where other libraries made the arrays they give."""
        ...

    def synchronize(self, stream: int) -> None:
        """Wait until everything on a stream is done; another library's stream is taken too."""

    def destroy_stream(self, stream: int) -> None:
        """Give it back."""

    def create_event(self) -> int:
        """An event that keeps its time."""
        ...

    def record(self, event: int, stream: int) -> None:
        """Take the time when the stream comes to here."""

    def elapsed_ms(self, start: int, end: int) -> float:
        """Between two recorded events, both past."""
        ...

    def destroy_event(self, event: int) -> None:
        """Give it back."""

    def begin_capture(self, stream: int) -> None:
        """What this thread enqueues from here on is kept as a graph instead of run."""

    def end_capture(self, stream: int) -> int:
        """The graph since `begin_capture`."""
        ...

    def instantiate(self, graph: int) -> int:
        """An executable of a graph."""
        ...

    def launch(self, executable: int, stream: int) -> None:
        """Run a whole graph."""

    def destroy_executable(self, executable: int) -> None:
        """Give it back."""

    def destroy_graph(self, graph: int) -> None:
        """Give it back; executables stay."""

    def close(self) -> None:
        """Leave the GPU."""


def open_cuda() -> CudaApi:
    """The binding that is installed, on its first GPU.

    Raises EngineError when there is none, when it cannot be loaded, or when the driver shows no GPU. Nothing of
    TensorRT may be touched before: its lean runtime crashes without a driver.
    """
    home = next((home for home, needs in _BINDINGS.items() if all(map(_is_there, needs))), None)
    if home is None:
        raise EngineError(f"no CUDA binding for Python is installed: {_GET}")
    opened: Callable[[], CudaApi] = import_module(home).open_cuda
    cuda = opened()
    if cuda.device_count() < 1:
        cuda.close()
        raise cuda_error("cudaErrorNoDevice", 100, "looking for a GPU")
    return cuda


def cuda_error(name: str, code: int, doing: str) -> EngineError:
    """`cudaErrorInsufficientDriver (35) when looking for a GPU: update the driver, …`."""
    remedy = _REMEDIES.get(name)
    return EngineError(f"{name} ({code}) when {doing}" + (f": {remedy}" if remedy else ""))


def _is_there(module: str) -> bool:
    return find_spec(module) is not None
