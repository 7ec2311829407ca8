"""TensorRT's rules on tiny graphs: each is broken by one, and TensorRT-RTX itself says what it makes of that."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edgekit_onnx import converter, linting
from edgekit_onnx.lint_worker import findings
from edgekit_onnx.operators import OPERATORS
from edgekit_onnx.rules import RULES, find
from onnx import TensorProto, helper

from edgekit.conversion import find_linter
from edgekit.errors import BuildError, ConfigError, ConversionError
from edgekit.tensorrt.building import build_engine
from edgekit.tensorrt.recipe import Recipe
from tests.onnx_graphs import constant, convolution, model, saved

Graph = Callable[[], onnx.ModelProto]

FIXED = (1, 4, 8, 8)
REFUSED, SILENT = "refused", "silent"  # what TensorRT-RTX does with a graph: an error, or an engine
OURS = "ours"  # and what edgekit's builder does not hand on to it

node = helper.make_node


def pair(source: str, target: str, *, scales: tuple[str, str] = ("s", "s"), points: tuple[str, ...] = ("z",)) -> Any:
    """Q and DQ from `source` to `target`."""
    return [
        node("QuantizeLinear", [source, scales[0], *points], [f"{target}_q"], name=f"q_{target}"),
        node("DequantizeLinear", [f"{target}_q", scales[1], *points], [target], name=f"dq_{target}"),
    ]


def kernel(*, scales: Any = (0.02,) * 4, axis: int = 0) -> tuple[list[Any], list[Any]]:
    """An int8 kernel (4, 4, 3, 3), dequantized: the node and its constants."""
    integers = np.random.default_rng(0).integers(-127, 128, (4, 4, 3, 3))
    zeros = np.zeros(np.shape(scales))
    nodes = [node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], name="dq_w", axis=axis)]
    return nodes, [constant("w8", integers, "int8"), constant("ws", scales), constant("wz", zeros, "int8")]


def conv(
    quantized: Any = None, *, s: Any = 0.1, z: Any = 0, dtype: str = "int8", more: Any = (), **weights: Any
) -> onnx.ModelProto:
    """A quantized convolution; `quantized` are the nodes from `x` to `xd`."""
    nodes, constants = kernel(**weights)
    scales = [constant("s", s), constant("z", z, dtype)]
    convolved = node("Conv", ["xd", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    return model([*(quantized or pair("x", "xd")), *nodes, convolved], [*scales, *constants, *more], shape=FIXED)


def activation(nodes: Any, constants: Any = (), **given: Any) -> onnx.ModelProto:
    """A graph on (1, 4, 8, 8) with a scale and a zero point beside its constants."""
    scales = [constant("s", 0.1), constant("z", 0, "int8")]
    return model(nodes, [*scales, *constants], **{"shape": FIXED, **given})


def channels_of_x() -> onnx.ModelProto:
    quantized = [
        node("QuantizeLinear", ["x", "s", "z"], ["x_q"], name="q_xd", axis=1),
        node("DequantizeLinear", ["x_q", "s", "z"], ["xd"], name="dq_xd", axis=1),
    ]
    return conv(quantized, s=(0.1,) * 4, z=(0,) * 4)


def integer_bias() -> onnx.ModelProto:
    nodes, constants = kernel()
    bias = node("DequantizeLinear", ["b", "s", "bz"], ["bd"], name="dq_bias")
    convolved = node("Conv", ["xd", "w", "bd"], ["y"], name="conv", pads=[1, 1, 1, 1])
    integers = [constant("b", range(4), "int32"), constant("bz", 0, "int32")]
    return activation([*pair("x", "xd"), *nodes, bias, convolved], [*constants, *integers])


def used(op_type: str, *inputs: str, **attributes: Any) -> Any:
    return node(op_type, list(inputs), ["y"], name="only", **attributes)


def plain(op_type: str, *inputs: str, constants: Any = (), attributes: Any = None, **given: Any) -> onnx.ModelProto:
    """One node from `x` to `y`."""
    made = node(op_type, list(inputs), ["y"], name="only", **(attributes or {}))
    return model([made], constants, **{"shape": FIXED, **given})


HALF = constant("h", np.ones(FIXED), "float16")

# rule, graph, the node that is named, what TensorRT-RTX 1.7 does with it
CASES: list[tuple[str, Graph, str, str]] = [
    ("zero-point", lambda: conv(z=7), "q_xd", REFUSED),
    ("zero-point", lambda: conv(z=128, dtype="uint8"), "q_xd", REFUSED),
    ("uint8", lambda: conv(dtype="uint8"), "q_xd", SILENT),
    ("uint8", lambda: activation(pair("x", "y", points=())), "q_y", SILENT),
    ("int32-bias", integer_bias, "dq_bias", REFUSED),
    ("quantized-type", lambda: model(
        pair("x", "y"), [constant("s", 0.1), constant("z", 0, "int16")], shape=FIXED, opset=21), "q_y", REFUSED),
    ("scale", lambda: conv(s=0), "q_xd", REFUSED),
    ("scale", lambda: conv(s=-1), "q_xd", REFUSED),
    ("scale", lambda: conv(s=np.inf), "q_xd", SILENT),
    ("scale", lambda: conv(scales=(0.0, 0.1, 0.1, 0.1)), "dq_w", REFUSED),
    ("scale", lambda: activation(
        [node("ReduceMax", ["x"], ["top"], keepdims=0), *pair("x", "y", scales=("top", "top"))]), "q_y", SILENT),
    ("per-channel-activation", channels_of_x, "q_xd", SILENT),
    ("per-channel-axis", lambda: conv(axis=1), "conv", SILENT),
    ("per-channel-axis", lambda: conv(scales=(0.1,) * 3), "conv", REFUSED),
    ("mismatched-pair", lambda: conv(
        pair("x", "xd", scales=("s", "s2")), more=[constant("s2", 0.2)]), "dq_xd", SILENT),
    ("unpaired", lambda: activation([
        node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"), node("Add", ["q", "q"], ["a"], name="sum"),
        node("DequantizeLinear", ["a", "s", "z"], ["y"], name="dq")]), "q", SILENT),
    ("quantized-softmax", lambda: activation(
        [node("Softmax", ["x"], ["soft"], name="softmax"), *pair("soft", "y")]), "q_y", SILENT),
    ("quantized-constant", lambda: activation(
        [node("Gather", ["k", "i"], ["row"], name="look"), node("DequantizeLinear", ["row", "s", "z"], ["r"]),
         node("Add", ["x", "r"], ["y"])],
        [constant("k", np.ones((2, 8)), "int8"), constant("i", 0, "int64")]), "look", REFUSED),
    ("empty-graph", lambda: helper.make_model(
        helper.make_graph([], "nothing", [], []), opset_imports=[helper.make_opsetid("", 18)]), "nothing", REFUSED),
    ("opset", lambda: plain("Relu", "x", opset=8), "tiny", SILENT),
    ("opset", lambda: plain("Relu", "x", opset=99), "tiny", SILENT),
    ("unknown-operator", lambda: plain("Det", "x"), "only", REFUSED),
    ("unknown-operator", lambda: model(
        [node("Mine", ["x"], ["y"], name="only", domain="com.acme")], domains=["com.acme"], shape=FIXED),
        "only", REFUSED),
    ("integer-operator", lambda: model(
        [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="only"),
         node("DequantizeLinear", ["q", "s", "z"], ["y"])], shape=FIXED), "only", REFUSED),
    ("tensor-type", lambda: plain("Identity", "x", dtype=TensorProto.INT16), "x", REFUSED),
    ("tensor-type", lambda: plain("Identity", "x", dtype=TensorProto.STRING), "x", REFUSED),
    ("rank", lambda: plain("Relu", "x", shape=(1,) * 9), "x", REFUSED),
    ("zero-dimension", lambda: plain("Relu", "x", shape=(0, 4, 8, 8)), "x", OURS),
    ("zero-dimension", lambda: plain(
        "MatMul", "x", "k", constants=[constant("k", np.zeros((4, 0)))], shape=(1, 4)), "only", SILENT),
    ("non-finite", lambda: plain("Add", "x", "n", constants=[constant("n", np.nan)]), "n", SILENT),
    ("non-finite", lambda: plain("Mul", "x", "n", constants=[constant("n", np.inf)]), "n", SILENT),
    ("mixed-types", lambda: plain("Add", "x", "h", constants=[HALF]), "only", REFUSED),
    ("mixed-types", lambda: plain(
        "Conv", "x", "h", constants=[constant("h", np.ones((4, 4, 1, 1)), "float16")]), "only", REFUSED),
    ("valid-onnx", lambda: model([used("Relu", "x"), used("Neg", "x")], shape=FIXED), "tiny", REFUSED),
]  # fmt: skip

SOUND: dict[str, Graph] = {
    "quantized": conv,
    "one scale for a kernel": lambda: conv(scales=0.02),
    "values moved as integers": lambda: activation([
        node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("Flatten", ["q"], ["f"]),
        node("DequantizeLinear", ["f", "s", "z"], ["flat"]), node("Reshape", ["flat", "shape"], ["y"])],
        [constant("shape", FIXED, "int64")]),
    "a mask of minus infinity": lambda: plain("Max", "x", "n", constants=[constant("n", -np.inf)]),
    "a cast between types": lambda: model(
        [node("Cast", ["h"], ["f"], to=TensorProto.FLOAT), used("Add", "x", "f")], [HALF], shape=FIXED),
    "an operator of another domain that TensorRT knows by its name": lambda: model(
        [node("Gelu", ["x"], ["y"], domain="com.microsoft")], domains=["com.microsoft"], shape=FIXED),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "graph", "where", "_rtx"), CASES)
def test_a_broken_rule_names_its_node(rule: str, graph: Graph, where: str, _rtx: str, tmp_path: Path) -> None:
    path = saved(graph(), tmp_path / "x.onnx")
    found = {finding.rule: finding for finding in reversed(findings(path))}
    assert rule in found
    assert found[rule].node == where
    assert found[rule].problem
    assert found[rule].remedy


def test_every_rule_has_a_case() -> None:
    assert {case[0] for case in CASES} == {*RULES, "valid-onnx"}


@pytest.mark.parametrize("name", SOUND)
def test_sound_graphs_break_no_rule(name: str) -> None:
    made = SOUND[name]()
    if "domain" not in name:
        onnx.checker.check_model(made, full_check=True)
    assert find(made) == ()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')
@pytest.mark.parametrize(("rule", "graph", "_where", "rtx"), [*CASES, *((n, g, "", SILENT) for n, g in SOUND.items())])
def test_what_tensorrt_rtx_makes_of_it(rule: str, graph: Graph, _where: str, rtx: str, tmp_path: Path) -> None:
    """What it takes in silence is why there are rules; sound graphs it must take."""
    path, ended = saved(graph(), tmp_path / "x.onnx"), SILENT
    try:
        build_engine(path, Recipe(compute_capabilities=("SM86",)), tmp_path / "x.engine", timeout_s=120)
    except BuildError as problem:
        ended = REFUSED if problem.reasons else OURS
    assert (rule, ended) == (rule, rtx)


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')
def test_the_operators_are_those_that_tensorrt_rtx_knows_too() -> None:
    import tensorrt_rtx as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    parser = trt.OnnxParser(builder.create_network(1), logger)
    gone = {name for name in OPERATORS if not parser.supports_operator(name)}
    assert gone == {"DeformConv"}


def test_a_file_that_is_none_is_a_finding(tmp_path: Path) -> None:
    empty, garbage, cut = (tmp_path / name for name in ("empty.onnx", "garbage.onnx", "cut.onnx"))
    empty.touch()
    garbage.write_bytes(b"\x08\xff no model")
    cut.write_bytes(convolution(tmp_path / "conv.onnx").read_bytes()[:-30])
    rules = [[found.rule for found in converter.lint(path, tool="tensorrt")] for path in (empty, garbage, cut)]
    assert rules == [["empty-file"], ["valid-onnx"], ["valid-onnx"]]


def test_a_crash_of_onnx_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: object, **kwargs: object) -> None:
        raise ConversionError("reading x.onnx: the process died of SIGSEGV; its last words: none")

    path = convolution(tmp_path / "x.onnx")
    monkeypatch.setattr(linting.workers, "call", crash)
    (found,) = converter.lint(path, tool="tensorrt")
    assert (found.rule, found.problem) == (
        "valid-onnx", "reading x.onnx: the process died of SIGSEGV; its last words: none",
    )  # fmt: skip


def test_other_tools_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^no rules of 'tensorrrt' for \.onnx files; did you mean 'tensorrt'\?$"):
        converter.lint(convolution(tmp_path / "x.onnx"), tool="tensorrrt")
    with pytest.raises(ConversionError, match=r"gone\.onnx: no such file"):
        converter.lint(tmp_path / "gone.onnx", tool="tensorrt")


def test_the_core_finds_the_linter() -> None:
    assert find_linter("onnx") is converter
    with pytest.raises(ConversionError, match=r"^nobody knows rules for tflite files: give an \.onnx file$"):
        find_linter("tflite")
