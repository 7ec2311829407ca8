"""What each layer of a TensorRT engine takes, by IProfiler, in an execution context of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any  # Any: TensorRT's objects, which have no types

from edgekit.errors import EngineError

Layer = tuple[str, float]  # its name and milliseconds


def layer_times(
    trt: Any,
    engine: Any,
    inputs: Mapping[str, tuple[int, ...]],
    addresses: Mapping[str, int],
    *,
    stream: int,
    synchronize: Callable[[int], None],
    runs: int,
) -> list[list[Layer]]:
    """Every layer of each run. A context that reports is never captured into a graph, and never used for anything else.

    `inputs` have the shapes to run, `addresses` the memory of all tensors. Raises EngineError.
    """
    context = engine.create_execution_context()
    if context is None:
        raise EngineError("TensorRT makes no second execution context to profile with")
    recorder = _recorder(trt)
    context.profiler = recorder
    for name, shape in inputs.items():
        if not context.set_input_shape(name, shape):
            raise EngineError(f"TensorRT does not take '{name}' of shape {shape} to profile with")
    for name, address in addresses.items():
        context.set_tensor_address(name, address)
    found = []
    for _ in range(runs):
        recorder.layers = []
        if not context.execute_async_v3(stream):
            raise EngineError("TensorRT failed while profiling")
        synchronize(stream)
        found.append(recorder.layers)
    return found


def _recorder(trt: Any) -> Any:
    class Recorder(trt.IProfiler):  # type: ignore[misc]  # the base is loaded at run time
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.layers: list[Layer] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.layers.append((layer_name, ms))

    return Recorder()
