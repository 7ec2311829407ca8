from __future__ import annotations

import numpy as np
import onnx
import pytest
from edgekit_tensorrt import checker
from edgekit_tensorrt.plan import parse_plan, weighted_dtypes
from onnx import TensorProto, helper, numpy_helper

from edgekit.conversion import Artifact, find_checker
from edgekit.errors import BuildError, ConversionError

needs_rtx = pytest.mark.skipif(checker.available() is not None, reason=str(checker.available()))

PLAN = """Layers:
Name: __mye1020_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , Metadata: 
Name: __myl_Round_1, LayerType: kgen, Inputs: [ { Name: image, Datatype: Float, Format: x }], Constants: [], \
Outputs: [ { Name: a, Datatype: Int8, Format: y }], TacticName: z, Metadata: [ONNX Layer: conv][ONNX Layer: q]
Name: conv_myl0_2, LayerType: correlation, Inputs: [ { Name: a, Dimensions: [-1,4], Datatype: Int8, Format: y }], \
Constants: [ { Name: c, Datatype: Float }], Outputs: [], TacticName: s, Metadata: [ONNX Layer: conv][ONNX Layer: dq]
"""  # noqa: W291


SIZES = {"x": [1, 3, 8, 8], "w": [3, 3, 1, 1], "o": [1, 2, 8, 8]}


def artifact(path, format_name="onnx"):
    return Artifact(format_name, "int8", path, (), (), "onnxruntime", "1.14")


def one_node(path, op_type="MatMul", weights=None):
    kernel = np.eye(3, dtype=np.float32) if weights is None else weights
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x", "kernel"], ["y"], name="only")],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return artifact(path)


def test_a_plan_is_read_per_kernel():
    layers = parse_plan(PLAN)
    assert [layer.type for layer in layers] == ["shape_call", "kgen", "correlation"]
    assert layers[2].input_dtypes == ("Int8",)
    assert weighted_dtypes(layers, ["conv", "gone"]) == {"conv": "Int8", "gone": "an unnamed kernel"}


def test_the_checker_comes_by_entry_point():
    assert find_checker("tensorrt") is checker


def test_what_is_missing_is_said_with_the_install_line(monkeypatch, tmp_path):
    monkeypatch.setattr("edgekit_tensorrt.checking.find_spec", lambda name: None)
    assert checker.available() == 'TensorRT-RTX is not installed: pip install "edgekit[tensorrt-rtx]" (x86-64)'
    with pytest.raises(ConversionError, match="TensorRT-RTX is not installed"):
        checker.check(artifact(tmp_path / "x.onnx"), work=tmp_path)


@needs_rtx
@pytest.mark.parametrize("name", ["classifier", "pair"])
@pytest.mark.parametrize("trained", [True, False])
def test_every_weighted_layer_of_an_int8_file_is_planned_as_int8(converted, tmp_path, name, trained):
    count = {"classifier": 4, "pair": 3}[name]
    verdict = checker.check(converted("onnx", name, "int8", trained=trained), work=tmp_path)
    assert verdict.accepted, verdict.detail
    assert verdict.detail == f"{count} of {count} weighted layers planned as Int8, for SM86"
    assert verdict.checker.startswith("TensorRT-RTX 1.")
    assert verdict.checker.endswith(" parser and builder")
    assert verdict.facts["compute_capability"] == "SM86"
    assert [path.suffix for path in tmp_path.iterdir()] == [".log"]


@needs_rtx
def test_float16_is_planned_as_half(converted, tmp_path):
    verdict = checker.check(converted("onnx", "pair", "fp16"), work=tmp_path)
    assert verdict.accepted
    assert verdict.detail == "3 of 3 weighted layers planned as Half, for SM86"


@needs_rtx
def test_a_refusal_names_the_node(tmp_path):
    verdict = checker.check(one_node(tmp_path / "x.onnx", op_type="Betainc"), work=tmp_path)
    assert not verdict.accepted
    assert verdict.detail.startswith("unknown-operator: 'only': TensorRT has no operator Betainc; ")


@needs_rtx
def test_what_no_rule_foresees_is_told_in_tensorrts_words(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("DeformConv", ["x", "w", "o"], ["y"], name="only", kernel_shape=[1, 1])],
        "one",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in SIZES.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    path = tmp_path / "x.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    verdict = checker.check(artifact(path), work=tmp_path)
    assert not verdict.accepted
    assert verdict.detail.startswith("[DeformConv] node 'only': ")


@needs_rtx
def test_asymmetric_activations_are_refused(tmp_path):
    path = tmp_path / "x.onnx"
    one_node(path)
    model = onnx.load(path)
    pair = ("QuantizeLinear", "x", "x_q"), ("DequantizeLinear", "x_q", "x_dq")
    for index, (op_type, source, target) in enumerate(pair):
        model.graph.node.insert(index, helper.make_node(op_type, [source, "scale", "point"], [target], name=target))
    model.graph.node[2].input[0] = "x_dq"
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), "scale"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(7, np.uint8), "point"))
    onnx.save(model, path)
    verdict = checker.check(artifact(path), work=tmp_path)
    assert not verdict.accepted
    assert verdict.detail.startswith("zero-point: 'x_q': its zero point is 7; ")
    assert "uint8: 'x_dq': it quantizes to uint8" in verdict.detail


@needs_rtx
def test_what_tensorrt_accepts_in_silence_is_refused(tmp_path):
    empty, bare = tmp_path / "empty.onnx", tmp_path / "bare.onnx"
    empty.touch()
    onnx.save(helper.make_model(helper.make_graph([], "nothing", [], [])), bare)
    spoiled = one_node(tmp_path / "nan.onnx", weights=np.full((3, 3), np.nan, np.float32))
    details = [checker.check(item, work=tmp_path).detail for item in (artifact(empty), artifact(bare), spoiled)]
    rules = ("empty-file: 'empty.onnx'", "empty-graph: 'nothing'", "non-finite: 'kernel'")
    for detail, rule in zip(details, rules, strict=True):
        assert detail.startswith(rule)


@needs_rtx
def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "x.onnx"
    one_node(path)
    path.write_bytes(path.read_bytes()[:-30])
    verdict = checker.check(artifact(path), work=tmp_path)
    assert not verdict.accepted
    assert verdict.detail.startswith("valid-onnx: 'x.onnx': ")


@needs_rtx
def test_another_format_is_refused(tmp_path):
    with pytest.raises(ConversionError, match=r"x\.tflite is tflite: convert to onnx"):
        checker.check(artifact(tmp_path / "x.tflite", "tflite"), work=tmp_path)


@needs_rtx
def test_a_crash_of_the_builder_is_a_refusal(tmp_path, monkeypatch):
    def crash(*args, **kwargs):
        raise BuildError("building x.onnx with TensorRT-RTX: the process died of SIGSEGV; its last words: none")

    monkeypatch.setattr("edgekit_tensorrt.checking.build_engine", crash)
    verdict = checker.check(one_node(tmp_path / "x.onnx"), work=tmp_path)
    assert not verdict.accepted
    assert "died of SIGSEGV" in verdict.detail
