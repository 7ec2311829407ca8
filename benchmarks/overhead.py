"""What Session.run costs over bare LiteRT interpreter calls.

    python benchmarks/overhead.py [BUNDLE]

Both sides run the same file on the same sample in one process, in turns. Two pairs are equal work on both sides:
`raw` (integer arrays in and out against set_tensor, invoke, get_tensor) and `float` (against the same with the
plainest numpy quantization written out by hand). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgekit.bundle import Bundle
from edgekit.manifest import Binding, Input, Member, Variant
from edgekit.runtime import open_file, open_session
from edgekit.runtime.golden import read_golden
from edgekit.runtime.session import Session
from edgekit.runtime.timing import Timing, measure
from edgekit.tensors import TensorSpec

WARMUP, RUNS = 200, 5000


def main() -> None:
    """Measure the bundle's int8 variant and a model of one operator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("out/digits-1.0.0.edgekit"))
    parser.add_argument("--warmup", type=int, default=WARMUP)
    parser.add_argument("--runs", type=int, default=RUNS)
    args = parser.parse_args()
    counts = {"warmup": args.warmup, "runs": args.runs}
    figures = {"bundle": _bundle(args.bundle, counts), "one_operator": _one_operator(counts)}
    print(json.dumps({**counts, "threads": 1, **figures}, indent=2))


def _bundle(path: Path, counts: dict[str, int]) -> dict[str, object]:
    with Bundle.open(path) as bundle:
        variant = next(item for item in bundle.manifest.variants if (item.format, item.precision) == ("tflite", "int8"))
        sample = {name: array[:1] for name, array in read_golden(bundle).inputs.items()}
        content = bundle.read(variant.member.path)
        with open_session(bundle, variant=variant.id) as session:
            return {"variant": variant.id, **_compare(session, variant, content, sample, counts)}


def _one_operator(counts: dict[str, int]) -> dict[str, object]:
    content = one_operator_model()
    with TemporaryDirectory() as folder:
        path = Path(folder, "one-operator.tflite")
        path.write_bytes(content)
        variant = Variant(
            id="one-operator", format="tflite", precision="fp32", member=Member(path.name, "", len(content)),
            targets=(), engine="litert", engine_least_version="1.0", golden_tolerance=0.0,
            inputs=(Binding("x", "x", "float32"),), outputs=(Binding("y", "y", "float32"),),
        )  # fmt: skip
        inputs, outputs = [Input("x", (None, 8), "float32")], [TensorSpec("y", (None, 8), "float32")]
        with open_file(path, variant, inputs, outputs) as session:
            return _compare(session, variant, content, session.sample(), counts)


def _compare(
    session: Session, variant: Variant, content: bytes, sample: dict[str, Any], counts: dict[str, int]
) -> dict[str, object]:
    bare = Bare(content, variant)
    stored = bare.quantize(sample)
    calls: dict[str, Callable[[], object]] = {
        "bare_raw": lambda: bare.run(stored),
        "session_raw": lambda: session.run(stored, raw=True),
        "bare_float": lambda: bare.dequantize(bare.run(bare.quantize(sample))),
        "session_float": lambda: session.run(sample),
    }
    for name, array in session.run(sample).items():
        np.testing.assert_array_equal(array, calls["bare_float"]()[name])  # type: ignore[index]
    timings = measure(calls, **counts)
    return {
        **{f"{name}_median_us": _microseconds(timing) for name, timing in timings.items()},
        "raw_ratio": round(timings["session_raw"].median_ms / timings["bare_raw"].median_ms, 3),
        "float_ratio": round(timings["session_float"].median_ms / timings["bare_float"].median_ms, 3),
    }


def _microseconds(timing: Timing) -> float:
    return round(timing.median_ms * 1e3, 2)


class Bare:
    """The interpreter by hand."""

    def __init__(self, content: bytes, variant: Variant) -> None:
        self.interpreter = Interpreter(model_content=content, num_threads=1)
        self.interpreter.allocate_tensors()
        indices = {detail["name"]: detail["index"] for detail in self.interpreter.get_input_details()}
        self.inputs = [(binding, indices[binding.tensor]) for binding in variant.inputs]
        indices = {detail["name"]: detail["index"] for detail in self.interpreter.get_output_details()}
        self.outputs = [(binding, indices[binding.tensor]) for binding in variant.outputs]

    def run(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """Set, invoke, get."""
        for binding, index in self.inputs:
            self.interpreter.set_tensor(index, arrays[binding.name])
        self.interpreter.invoke()
        return {binding.name: self.interpreter.get_tensor(index) for binding, index in self.outputs}

    def quantize(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """Float to the file's dtypes."""
        return {
            binding.name: arrays[binding.name]
            if binding.quantization is None
            else binding.quantization.quantize(arrays[binding.name], binding.dtype)
            for binding, _ in self.inputs
        }

    def dequantize(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """The file's dtypes to float."""
        return {
            binding.name: arrays[binding.name]
            if binding.quantization is None
            else binding.quantization.dequantize(arrays[binding.name])
            for binding, _ in self.outputs
        }


def one_operator_model() -> bytes:
    """A TFLite file whose only operator is RELU on (1, 8) float32."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, [1, 8], schema.TensorType.FLOAT32, 0
        return made

    operator, code, graph, model = schema.OperatorT(), schema.OperatorCodeT(), schema.SubGraphT(), schema.ModelT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RELU
    code.version = 1
    graph.tensors, graph.inputs, graph.outputs = [tensor("x"), tensor("y")], [0], [1]
    graph.operators = [operator]
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


if __name__ == "__main__":
    main()
