"""A `tensorrt` module that runs one fully connected layer in the recording fake's memory.

It has no name that the real bindings lack: test_tensorrt_names.py compares.
"""

from __future__ import annotations

import ctypes
import enum
import json
import weakref
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tests.runtime.recording_cuda import RecordingCuda
from tests.tiny_models import expected

VERSION = "10.3.0.30"
GOOD = "engine of the fake"
BOTH_SIDES = {"input_1": (4, "FLOAT"), "output_1": (3, "FLOAT")}


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.Enum):
    DEVICE = 0
    HOST = 1


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BF16 = 7


class IProfiler:
    def __init__(self) -> None:
        pass

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class ILogger:
    def __init__(self) -> None:
        pass

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


def plan(
    *, profiles: Sequence[Mapping[str, Any]] = ({"input_1": ((1, 4), (4, 4), (8, 4))},), **changes: object
) -> bytes:
    """An engine of this fake; `changes` make it fail, or another."""
    facts = {"kind": GOOD, "profiles": profiles, "tensors": BOTH_SIDES, "open_batch": True, **changes}
    return json.dumps(facts).encode()


class FakeTensorRT(ModuleType):
    """The module. `live` holds its engines and contexts that nobody let go of."""

    def __init__(self, cuda: RecordingCuda, *, name: str = "tensorrt", version: str = VERSION) -> None:
        super().__init__(name)
        self.__version__ = version
        self.ILogger, self.TensorIOMode, self.TensorLocation = ILogger, TensorIOMode, TensorLocation
        self.DataType, self.IProfiler = DataType, IProfiler
        self.live: weakref.WeakSet[Any] = weakref.WeakSet()
        self.given: list[bytes] = []  # to deserialize
        self.host_code: list[bool] = []
        self.cuda = cuda

    def Runtime(self, logger: ILogger) -> Runtime:  # noqa: N802  # as TensorRT calls it
        return Runtime(self, logger)


class Runtime:
    def __init__(self, trt: FakeTensorRT, logger: ILogger) -> None:
        self._trt, self.logger = trt, logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, content: bytes) -> ICudaEngine | None:
        self._trt.given.append(content)
        self._trt.host_code.append(self.engine_host_code_allowed)
        try:
            facts = json.loads(content)
        except ValueError:
            self.logger.log(Severity.ERROR, "Serialization assertion magicTagRead failed")
            return None
        return ICudaEngine(self._trt, self.logger, facts)


class ICudaEngine:
    def __init__(self, trt: FakeTensorRT, logger: ILogger, facts: Mapping[str, Any]) -> None:
        self._trt, self._logger, self._facts = trt, logger, facts
        self._names = list(facts["tensors"])
        self.num_io_tensors = len(self._names)
        self.num_optimization_profiles = len(facts["profiles"])
        trt.live.add(self)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name.startswith("input") else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self._facts["tensors"][name][1]]

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation[self._facts.get("location", "DEVICE")]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1 if self._facts["open_batch"] else 1, self._facts["tensors"][name][0])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._facts["profiles"][profile_index][name]]

    def create_execution_context(self) -> IExecutionContext | None:
        if self._facts.get("context") == "refused":
            self._logger.log(Severity.ERROR, "Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)")
            return None
        return IExecutionContext(self._trt, self._logger, self._facts)


class IExecutionContext:
    def __init__(self, trt: FakeTensorRT, logger: ILogger, facts: Mapping[str, Any]) -> None:
        self._trt, self._logger, self._facts = trt, logger, facts
        self._batch = 0
        self.profiler: IProfiler | None = None
        self._addresses: dict[str, int] = {}
        trt.live.add(self)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._trt.cuda.calls.append(f"profile {profile_index}")
        return bool(self._facts.get("profile", "taken") == "taken")

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        self._trt.cuda.calls.append(f"shape {tuple(shape)}")
        self._batch = shape[0]
        return bool(self._facts.get("shape", "taken") == "taken")

    def infer_shapes(self) -> list[str]:
        if self._facts.get("infer") == "raises":
            raise RuntimeError("IExecutionContext::inferShapes: Error Code 7")
        return list(self._facts.get("unknown", []))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1 if self._facts.get("output") == "open" else self._batch, self._facts["tensors"][name][0])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._trt.cuda.calls.append(f"address {name}")
        self._addresses[name] = memory
        return bool(self._facts.get("address", "taken") == "taken")

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._trt.cuda.calls.append("execute")
        if self.profiler is not None:
            self.profiler.report_layer_time("gemm", 2.0)
            self.profiler.report_layer_time("reformat", 0.5)
        capturing = self._trt.cuda.calls[-2] == "begin_capture"
        if self._facts.get("execute") == "refused" or (self._facts.get("capture") == "refused" and capturing):
            self._logger.log(Severity.ERROR, "Error Code 1: Cuda Runtime (operation not permitted)")
            return False
        self._trt.cuda.enqueue(self._compute)
        return True

    def _compute(self) -> None:
        images = _array(self._addresses["input_1"], (self._batch, 4))
        _array(self._addresses["output_1"], (self._batch, 3))[...] = expected(images)


def _array(address: int, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    return np.frombuffer((ctypes.c_float * count).from_address(address), np.float32).reshape(shape)
