"""One converted file with what is needed to run it, and its runs in a process of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from edgekit import workers
from edgekit.comparison.layers import LayerComparison
from edgekit.errors import ConversionError
from edgekit.manifest import Binding
from edgekit.runtime.arrays import read_npz, write_npz
from edgekit.runtime.timing import Timing
from edgekit.strict import parse
from edgekit.tensors import Array, TensorSpec

_TIMEOUT_S = 1800.0
_WORKER = "edgekit.comparison.worker"

Timings = dict[str, Timing]


@dataclass(frozen=True)
class ModelFile:
    """A .tflite or .onnx file; specs are as a caller sees them, bindings as the engine does, both in one order."""

    path: str
    format: str
    engine: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_bindings: tuple[Binding, ...]
    output_bindings: tuple[Binding, ...]


def describe(path: Path, format_name: str) -> ModelFile:
    """Open a file that no manifest describes. Raises ConversionError."""
    request = {"task": "describe", "path": str(path), "format": format_name}
    return parse(ModelFile, _call(request, f"opening {path}"), where=str(path), error=ConversionError)


def run_file(file: ModelFile, inputs: Mapping[str, Array], *, label: str) -> dict[str, Array]:
    """Its outputs on all samples, with the engine that runs it on a device. Raises ConversionError, EngineError."""
    with tempfile.TemporaryDirectory(prefix="edgekit-compare-") as folder:
        given, result = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        write_npz(given, inputs)
        request = {"task": "run", "file": asdict(file), "inputs": str(given), "outputs": str(result)}
        _call(request, f"running {label}")
        return read_npz(result)


def time_files(files: Mapping[str, ModelFile], inputs: Mapping[str, Array], *, warmup: int, runs: int) -> Timings:
    """The latency of one sample in each file, one thread, in turns. Raises ConversionError, EngineError."""
    with tempfile.TemporaryDirectory(prefix="edgekit-compare-") as folder:
        given = Path(folder, "inputs.npz")
        write_npz(given, inputs)
        described = {name: asdict(file) for name, file in files.items()}
        request = {"task": "time", "files": described, "inputs": str(given), "warmup": warmup, "runs": runs}
        reply = _call(request, f"timing {', '.join(files)}")
    return {name: parse(Timing, timing, where="timing", error=ConversionError) for name, timing in reply.items()}


def compare_files(
    reference: ModelFile, quantized: ModelFile, inputs: Mapping[str, Array], *, known_layers: Mapping[str, bool] | None
) -> LayerComparison:
    """Layer by layer; `inputs` are by the input names of either file. Raises ConfigError, ConversionError."""
    with tempfile.TemporaryDirectory(prefix="edgekit-compare-") as folder:
        given = Path(folder, "inputs.npz")
        write_npz(given, inputs)
        request = {
            "task": "layers",
            "reference": asdict(reference),
            "quantized": asdict(quantized),
            "inputs": str(given),
            "known_layers": None if known_layers is None else dict(known_layers),
        }
        reply = _call(request, f"comparing the layers of {Path(quantized.path).name}")
    return parse(LayerComparison, reply, where="layer comparison", error=ConversionError)


def _call(request: Mapping[str, object], what: str) -> dict[str, object]:
    return workers.call(_WORKER, request, timeout_s=_TIMEOUT_S, what=what, error=ConversionError)
