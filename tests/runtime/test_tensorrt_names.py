"""The fake has no name that a real binding lacks: those of six are in tensorrt_names.json."""

from __future__ import annotations

import enum
import json
from pathlib import Path

import pytest

from tests.runtime import fake_tensorrt
from tests.runtime.fake_tensorrt import FakeTensorRT, ICudaEngine, IExecutionContext, Runtime, plan
from tests.runtime.recording_cuda import RecordingCuda

NAMES = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text())
BINDINGS = ("10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106", "lean", "rtx")


def test_six_bindings_are_compared() -> None:
    assert len(NAMES) == len(BINDINGS)
    assert all(any(name.startswith(binding) for name in NAMES) for binding in BINDINGS)


@pytest.mark.parametrize("binding", NAMES)
def test_objects_have_no_other_names(binding: str) -> None:
    trt = FakeTensorRT(RecordingCuda())
    logger = fake_tensorrt.ILogger()
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan())
    assert engine is not None
    for made in (runtime, engine, engine.create_execution_context(), logger, fake_tensorrt.IProfiler()):
        used = {name for name in dir(made) if not name.startswith("_")}
        assert used <= {*NAMES[binding][type(made).__name__]}, type(made).__name__
    assert {type(made).__name__ for made in (runtime, engine)} == {Runtime.__name__, ICudaEngine.__name__}
    assert IExecutionContext.__name__ in NAMES[binding]


@pytest.mark.parametrize("binding", NAMES)
@pytest.mark.parametrize("kind", [fake_tensorrt.TensorIOMode, fake_tensorrt.TensorLocation, fake_tensorrt.DataType])
def test_enums_have_no_other_members(binding: str, kind: type[enum.Enum]) -> None:
    assert set(kind.__members__) <= {*NAMES[binding][kind.__name__]}
