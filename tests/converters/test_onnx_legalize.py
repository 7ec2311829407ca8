"""Graphs that TensorRT refuses, mended: the same results in ONNX Runtime, and no rule is broken any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from edgekit_onnx import converter
from edgekit_onnx.legalize import legalize
from edgekit_onnx.rules import find
from onnx import helper

from edgekit.errors import ConfigError, ConversionError
from tests.converters.test_onnx_rules import FIXED, conv, integer_bias, node, pair
from tests.onnx_graphs import constant, convolution, model, saved

X = np.random.default_rng(0).normal(size=FIXED).astype(np.float32)


def outputs(made: onnx.ModelProto) -> Any:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X})[0]


def middle_kernel() -> onnx.ModelProto:
    """Weights, too, are uint8 around 128."""
    integers = np.random.default_rng(0).integers(1, 256, (4, 4, 3, 3))
    constants = [
        constant("s", 0.02), constant("z", 128, "uint8"), constant("w8", integers, "uint8"),
    ]  # fmt: skip
    nodes = [
        *pair("x", "xd"),
        node("DequantizeLinear", ["w8", "s", "z"], ["w"], name="dq_w"),
        node("Conv", ["xd", "w"], ["y"], name="conv", pads=[1, 1, 1, 1]),
    ]
    return model(nodes, constants, shape=FIXED)


def softmax(*, last: bool) -> onnx.ModelProto:
    nodes = [node("Softmax", ["x"], ["soft"], name="softmax", axis=1), *pair("soft", "y" if last else "p")]
    nodes += [] if last else [node("Neg", ["p"], ["y"])]
    return model(nodes, [constant("s", 1e-4), constant("z", 0, "int8")], shape=FIXED)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (conv(z=128, dtype="uint8"), "2 moved from uint8 with zero point 128 to int8 with 0"),
        (middle_kernel(), "3 moved from uint8 with zero point 128 to int8 with 0"),
        (integer_bias(), "1 int32 biases became float"),
    ],
)
def test_what_is_mended_gives_the_same(made: onnx.ModelProto, words: str) -> None:
    before = outputs(made)
    assert find(made)
    assert legalize(made) == [words]
    onnx.checker.check_model(made, full_check=True)
    assert find(made) == ()
    np.testing.assert_allclose(outputs(made), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("last", [True, False])
def test_a_softmax_gives_floats_again(last: bool) -> None:
    made = softmax(last=last)
    assert legalize(made) == ["1 pairs behind a softmax were removed"]
    onnx.checker.check_model(made, full_check=True)
    assert find(made) == ()
    expected = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(outputs(made)), expected, atol=1e-6)
    assert [value.name for value in made.graph.output] == ["y"]


def handed_on() -> onnx.ModelProto:
    """The integers are an output: who reads it would see others."""
    made = conv(z=128, dtype="uint8")
    made.graph.output.append(helper.make_tensor_value_info("xd_q", onnx.TensorProto.UINT8, FIXED))
    return made


@pytest.mark.parametrize("made", [conv(z=7), conv(dtype="uint8"), conv(axis=1), handed_on()])
def test_what_would_change_a_result_is_left(made: onnx.ModelProto) -> None:
    before, broken = made.SerializeToString(), find(made)
    assert legalize(made) == []
    assert made.SerializeToString() == before
    assert broken


def test_a_mended_copy_is_written(tmp_path: Path) -> None:
    path, output = saved(conv(z=128, dtype="uint8"), tmp_path / "x.onnx"), tmp_path / "mended.onnx"
    assert converter.legalize(path, output, tool="tensorrt") == (
        "2 moved from uint8 with zero point 128 to int8 with 0",
    )
    assert converter.lint(output, tool="tensorrt") == ()
    assert converter.lint(path, tool="tensorrt") != ()


def test_a_damaged_file_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(convolution(path).read_bytes()[:-30])
    with pytest.raises(ConversionError, match=r"x\.onnx: not an ONNX model"):
        converter.legalize(path, tmp_path / "mended.onnx", tool="tensorrt")
    with pytest.raises(ConfigError, match="no rules of 'tvm'"):
        converter.legalize(path, tmp_path / "mended.onnx", tool="tvm")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["x.onnx"]
