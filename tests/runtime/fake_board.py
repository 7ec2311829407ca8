"""A machine with TensorRT and a GPU, both fakes."""

from __future__ import annotations

from edgekit.errors import EngineError
from tests.runtime.fake_tensorrt import FakeTensorRT, plan
from tests.runtime.recording_cuda import RecordingCuda
from tests.tensorrt.builders import FakeBuilder


class Board:
    """A machine with TensorRT and a GPU, both fakes."""

    def __init__(self) -> None:
        self.cudas: list[RecordingCuda] = []
        self.devices = 1
        self.trt = FakeTensorRT(RecordingCuda())
        self.builder = FakeBuilder(plan())

    def open_cuda(self) -> RecordingCuda:
        if not self.devices:
            raise EngineError("cudaErrorNoDevice (100) when looking for a GPU: no GPU is visible")
        cuda = RecordingCuda()
        self.cudas.append(cuda)
        self.trt.cuda = cuda
        return cuda

    def left(self) -> set[str]:
        return set().union(*(cuda.live for cuda in self.cudas)) | {
            f"open {index}" for index, cuda in enumerate(self.cudas) if cuda.closed != 1
        }
