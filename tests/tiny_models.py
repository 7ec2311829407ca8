"""Tiny models, made without TensorFlow: one fully connected layer as TFLite (float and int8) and as ONNX.

outputs["scores"] = inputs["image"] @ WEIGHTS.T + BIAS, for an image of shape (batch, 4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle import write_bundle
from edgekit.manifest import Binding, Golden, Input, Manifest, Member, Provenance, Variant
from edgekit.preprocessing.declared import Audio, Preprocessing
from edgekit.runtime.golden import write_golden
from edgekit.tensorrt.recipe import Recipe
from edgekit.tensors import Quantization, TensorSpec

WEIGHTS = np.array([[0.5, -0.25, 0.125, 1.0], [-0.5, 0.75, 0.25, 0.0], [1.0, 0.5, -1.0, 0.25]], np.float32)
BIAS = np.array([0.1, -0.2, 0.3], np.float32)
INPUTS = (Input("image", (None, 4), "float32", (0.0, 1.0)),)
SOUNDS = (replace(INPUTS[0], preprocessing=Preprocessing(audio=Audio(8000, samples=4))),)  # four samples of a sound
OUTPUTS = (TensorSpec("scores", (None, 3), "float32"),)
IMAGES = np.random.default_rng(7).uniform(0.0, 1.0, (8, 4)).astype(np.float32)
INPUT_QUANTIZATION = Quantization(1 / 255, -128)
OUTPUT_QUANTIZATION = Quantization(0.02, -10)


def expected(images: np.ndarray) -> np.ndarray:
    return images @ WEIGHTS.T + BIAS


def float_tflite() -> bytes:
    return _tflite("float32", None, None, WEIGHTS, BIAS)


def int8_tflite() -> bytes:
    weight_scale = float(np.abs(WEIGHTS).max()) / 127
    weights = np.rint(WEIGHTS / weight_scale).astype(np.int8)
    bias = np.rint(BIAS / (weight_scale * INPUT_QUANTIZATION.scale)).astype(np.int32)
    return _tflite("int8", INPUT_QUANTIZATION, OUTPUT_QUANTIZATION, weights, bias, weight_scale)


def float_onnx(batch: int | str = "batch") -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Gemm", ["input_1", "weights", "bias"], ["output_1"], transB=1)],
        "tiny",
        [helper.make_tensor_value_info("input_1", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("output_1", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(BIAS, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def bindings(engine: str, dtype: str = "float32") -> tuple[tuple[Binding, ...], tuple[Binding, ...]]:
    quantized = dtype == "int8"
    names = ("serving_image", "serving_scores") if engine == "litert" else ("input_1", "output_1")
    return (
        (Binding("image", names[0], dtype, INPUT_QUANTIZATION if quantized else None),),
        (Binding("scores", names[1], dtype, OUTPUT_QUANTIZATION if quantized else None),),
    )


@dataclass(frozen=True)
class Part:
    """One variant before packing."""

    format: str
    precision: str
    content: bytes
    engine: str
    dtype: str = "float32"
    engine_least_version: str = "1.0"
    tolerance: float = 1e-5
    recipe: Recipe | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.format}-{self.precision}"

    def variant(self) -> Variant:
        inputs, outputs = bindings(self.engine, self.dtype)
        return Variant(
            id=self.id,
            format=self.format,
            precision=self.precision,
            member=member(f"{self.id}.{self.format}", self.content),
            targets=("local",),
            engine=self.engine,
            engine_least_version=self.engine_least_version,
            inputs=inputs,
            outputs=outputs,
            golden_tolerance=self.tolerance,
            tensorrt=self.recipe,
            metrics=self.metrics,
        )


def parts() -> tuple[Part, ...]:
    return (
        Part("tflite", "fp32", float_tflite(), "litert"),
        Part("tflite", "int8", int8_tflite(), "litert", "int8", tolerance=0.05),
        Part("onnx", "fp32", float_onnx(), "onnxruntime"),
    )


def member(path: str, content: bytes) -> Member:
    return Member(path, hashlib.sha256(content).hexdigest(), len(content))


def manifest_of(
    variants: tuple[Variant, ...],
    golden: bytes,
    inputs: tuple[Input, ...] = INPUTS,
    version: str = "1.0.0",
    steps: int | None = None,
) -> Manifest:
    return Manifest(
        format_version=1,
        name="tiny",
        version=version,
        inputs=inputs,
        outputs=OUTPUTS,
        variants=variants,
        golden=Golden(member("golden.npz", golden), len(IMAGES) // (steps or 1), steps),
        provenance=Provenance((), {}, "0" * 64, {}),
    )


def pack(
    folder: Path,
    contents: tuple[Part, ...] | None = None,
    *,
    golden: Mapping[str, Any] | None = None,
    inputs: tuple[Input, ...] = INPUTS,
    version: str = "1.0.0",
    steps: int | None = None,
) -> Path:
    """Write `tiny-1.0.0.edgekit` in `folder`; `golden` replaces the golden outputs, of sequences with `steps`."""
    chosen = parts() if contents is None else contents
    scratch = folder / "members"
    scratch.mkdir(parents=True, exist_ok=True)
    images = IMAGES if steps is None else IMAGES.reshape(-1, steps, IMAGES.shape[1])
    write_golden(scratch / "golden.npz", {"image": images}, golden or {"scores": expected(IMAGES)})
    files = {"golden.npz": scratch / "golden.npz"}
    for part in chosen:
        path = scratch / part.variant().member.path
        path.write_bytes(part.content)
        files[path.name] = path
    bundle = folder / f"tiny-{version}.edgekit"
    variants = tuple(part.variant() for part in chosen)
    write_bundle(bundle, manifest_of(variants, files["golden.npz"].read_bytes(), inputs, version, steps), files)
    return bundle


def relu_tflite() -> bytes:
    """RELU on `x` (1, n) float32 with n left open, giving `y`."""
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.shapeSignature = name, [1, 1], [1, -1]
        made.type, made.buffer = schema.TensorType.FLOAT32, 0
        return made

    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    return _model([tensor("x"), tensor("y")], operator, schema.BuiltinOperator.RELU, 1, [schema.BufferT()])


def _tflite(
    dtype: str,
    takes: Quantization | None,
    gives: Quantization | None,
    weights: np.ndarray,
    bias: np.ndarray,
    weight_scale: float = 1.0,
) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    quantized = dtype == "int8"
    kinds = {"float32": schema.TensorType.FLOAT32, "int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32}

    def tensor(name: str, shape: list[int], kind: str, buffer: int, scale: float, zero_point: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, kinds[kind], buffer
        if quantized:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [zero_point]
        return made

    def buffer(content: bytes | None) -> Any:
        made = schema.BufferT()
        made.data = None if content is None else np.frombuffer(content, np.uint8)
        return made

    into, out = takes or Quantization(1.0, 0), gives or Quantization(1.0, 0)
    tensors = [
        tensor("serving_image", [1, 4], dtype, 0, into.scale, into.zero_point),
        tensor("weights", [3, 4], dtype, 1, weight_scale, 0),
        tensor("bias", [3], "int32" if quantized else "float32", 2, weight_scale * into.scale, 0),
        tensor("serving_scores", [1, 3], dtype, 0, out.scale, out.zero_point),
    ]
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    buffers = [buffer(None), buffer(weights.tobytes()), buffer(bias.tobytes())]
    return _model(tensors, operator, schema.BuiltinOperator.FULLY_CONNECTED, 4 if quantized else 1, buffers)


def _model(tensors: list[Any], operator: Any, kind: int, version: int, buffers: list[Any]) -> bytes:
    """A TFLite file of one operator, whose first input is the model's and whose output is too."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    graph, code, model = schema.SubGraphT(), schema.OperatorCodeT(), schema.ModelT()
    graph.tensors, graph.operators = tensors, [operator]
    graph.inputs, graph.outputs = operator.inputs[:1], operator.outputs
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = version
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
