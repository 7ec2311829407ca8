"""A session: one opened variant, fed and read under the Keras names."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any  # Any: arrays of other libraries

from edgekit.errors import DataError, EngineError
from edgekit.manifest import Binding, Input
from edgekit.runtime.arrays import sample_inputs
from edgekit.runtime.choosing import Choice
from edgekit.runtime.cuda_memory import device_array, on_device
from edgekit.runtime.engines import GpuRunner, Runner
from edgekit.runtime.ports import Ports, input_port, output_port
from edgekit.runtime.timing import DEFAULT_RUNS, DEFAULT_WARMUP, Stages, Timing, measure, measure_stages
from edgekit.tensors import Array, TensorSpec


@dataclass(frozen=True)
class Signature:
    """A model's inputs and outputs in Keras order, each with its binding in the variant's file."""

    where: str  # the file, for messages
    inputs: tuple[Input, ...]
    outputs: tuple[TensorSpec, ...]
    input_bindings: tuple[Binding, ...]
    output_bindings: tuple[Binding, ...]


class Session:
    """One opened variant, float in and float out whatever its precision.

    Calls from several threads take turns; open a session for each thread to run side by side.
    """

    def __init__(self, runner: Runner, signature: Signature, choice: Choice) -> None:
        """Use `open_bundle` or `open_file`."""
        self.inputs = tuple(item.spec for item in signature.inputs)
        self.outputs = signature.outputs
        self.choice = choice
        self._runner: Runner | None = runner
        self._signature = signature
        self._where = signature.where
        self._ports = _ports(runner, signature, raw=False)
        self._raw_ports = _ports(runner, signature, raw=True)
        self._lock = threading.Lock()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, inputs: Mapping[str, Array], *, raw: bool = False) -> dict[str, Array]:
        """Run the model on arrays by input name; any number of samples where the batch dimension is dynamic.

        Arrays have the shapes and dtypes of `inputs`, and results those of `outputs`; with `raw`, the dtypes that the
        variant's file has, without quantization. A file made for one sample runs once for each.
        On TensorRT an array may be in the GPU's memory already (cupy, torch: `__cuda_array_interface__`) and is read
        there. Raises DataError on a wrong name, shape or dtype, or on NaN for an integer input; EngineError when the
        engine fails or the session is closed.
        """
        if not isinstance(inputs, dict | Mapping):
            raise DataError(f"{self._where}: run takes a dict of arrays by input name, got {type(inputs).__name__}")
        ports = self._raw_ports if raw else self._ports
        with self._lock:
            runner = self._runner
            if runner is None:
                raise EngineError(f"{self._where}: the session is closed; open it again")
            arrays = ports.take_common(inputs)
            if arrays is not None:
                return ports.give(runner.run(arrays))
            return self._run_checked(runner, ports, inputs)

    def benchmark(
        self,
        inputs: Mapping[str, Array] | None = None,
        *,
        warmup: int = DEFAULT_WARMUP,
        runs: int = DEFAULT_RUNS,
    ) -> Timing:
        """Time `run` on `inputs`, or on one made-up sample in the range of the calibration data."""
        sample = self.sample() if inputs is None else inputs
        return measure({"run": lambda: self.run(sample)}, warmup=warmup, runs=runs)["run"]

    def stages(
        self,
        inputs: Mapping[str, Array] | None = None,
        *,
        warmup: int = DEFAULT_WARMUP,
        runs: int = DEFAULT_RUNS,
    ) -> Stages | None:
        """Where the time of one run goes on a GPU, by CUDA's events; None where the engine runs on no GPU of ours.

        `inputs` are one piece that the engine takes at once. Raises as `run` does.
        """
        with self._lock:
            runner = self._runner
            if not isinstance(runner, GpuRunner):
                return None
            given = self._located(self.sample() if inputs is None else inputs)
            self._ports.check(given, self._where)
            pieces = self._ports.batches(given, self._where)
            if len(pieces) > 1:
                raise DataError(f"{self._where}: {len(pieces)} runs are needed for these samples; give those of one")
            arrays = self._ports.convert(pieces[0])
            return measure_stages(lambda: runner.timed_run(arrays), warmup=warmup, runs=runs)

    def sample(self) -> dict[str, Array]:
        """One made-up sample, uniform in the range of the calibration data; the same every time."""
        return sample_inputs(self._signature.inputs)

    def close(self) -> None:
        """Free the model; a second close is harmless."""
        with self._lock:
            if self._runner is not None:
                self._runner.close()
                self._runner = None

    def _run_checked(self, runner: Runner, ports: Ports, inputs: Mapping[str, Array]) -> dict[str, Array]:
        inputs = self._located(inputs)
        ports.check(inputs, self._where)
        pieces = [ports.give(runner.run(ports.convert(arrays))) for arrays in ports.batches(inputs, self._where)]
        return ports.join(pieces, self._where)

    def _located(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same with arrays of a GPU's memory as DeviceArray. Raises DataError where the engine cannot read them."""
        there = [name for name, array in inputs.items() if on_device(array)]
        if there and not isinstance(self._runner, GpuRunner):
            raise DataError(f"{self._where}: '{there[0]}' is in a GPU's memory, {self.choice.engine} takes numpy's")
        return {name: device_array(name, array) if name in there else array for name, array in inputs.items()}


def _ports(runner: Runner, signature: Signature, *, raw: bool) -> Ports:
    specs: Sequence[TensorSpec] = [item.spec for item in signature.inputs]
    takes = zip(specs, signature.input_bindings, runner.shapes, strict=True)
    gives = zip(signature.outputs, signature.output_bindings, strict=True)
    return Ports(
        [input_port(spec, binding, shape, raw=raw) for spec, binding, shape in takes],
        [output_port(spec, binding, raw=raw) for spec, binding in gives],
    )
