"""Weights in int8 and int4, activations in float."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from edgekit_onnx import converter
from edgekit_onnx.graphs import Graph
from edgekit_onnx.inspection import float_layers
from edgekit_onnx.options import ONNXOptions
from edgekit_onnx.rules import find
from edgekit_onnx.running import run_outputs
from edgekit_onnx.weights_only import quantize_weights
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ConfigError
from edgekit.ranges import snr_db

RNG = np.random.default_rng(4)
WIDTH, WORDS = 64, 2048
LAYERS = ("net", "embedding", "inner", "odd", "scores")


@pytest.fixture(scope="module")
def network():
    """A table, a product that blocks divide, one that they do not, and one that is smaller than its scales."""
    constants = {
        "table": RNG.normal(0, 1, (WORDS, WIDTH)), "a": RNG.normal(0, 0.1, (WIDTH, 40)),
        "b": RNG.normal(0, 0.1, (40, WIDTH)), "c": RNG.normal(0, 0.1, (WIDTH, 8)),
    }  # fmt: skip
    constants["a"][:, 3] = 0
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["rows"], name="net/embedding_1/GatherV2"),
        helper.make_node("MatMul", ["rows", "a"], ["m"], name="net/inner_1/MatMul"),
        helper.make_node("MatMul", ["m", "b"], ["n"], name="net/odd_1/MatMul"),
        helper.make_node("MatMul", ["n", "c"], ["scores"], name="net/scores_1/MatMul"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("tokens", TensorProto.INT32, ["batch"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def quantized(network, precision, options, layers):
    """Of a copy, since it may change what it is given."""
    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    return quantize_weights(copy, precision, options, layers)


FEEDS = [{"tokens": np.arange(50, dtype=np.int32)}]


@pytest.mark.parametrize(
    ("precision", "opset", "least_db", "share"), [("dynamic-int8", 18, 36, 3.7), ("int4-weights", 21, 16, 3.7)]
)
def test_weights_are_integers_and_nothing_else_is(network, precision, opset, least_db, share):
    made, _ = quantized(network, precision, ONNXOptions(), LAYERS)
    onnx.checker.check_model(made, full_check=True)
    assert made.opset_import[0].version == opset
    assert not list(Graph(made).nodes("QuantizeLinear"))
    assert float_layers(Graph(made), activations=False) == ()
    assert network.ByteSize() / made.ByteSize() > share
    wanted, found = (run_outputs(each, FEEDS, where="x") for each in (network, made))
    assert snr_db(wanted, found) > least_db


def test_blocks_of_four_bits_are_packed_as_onnx_reads_them(network):
    made, (note,) = quantized(network, "int4-weights", ONNXOptions(block_size=16), LAYERS)
    assert note.startswith("1 kernels are int8 instead of int4, for blocks of 16 do not divide them")  # of 40 inputs
    graph = Graph(made)
    stored = numpy_helper.to_array(graph.constants["a_int4"]).astype(np.float32).reshape(-1, 16, 40)
    scales = graph.array("a_int4_scale")
    weights = Graph(network).array("a").reshape(-1, 16, 40)
    assert np.abs(stored).max() <= 7
    assert np.abs(stored * scales[:, None] - weights).max() <= 0.51 * scales.max()
    assert "b_int8_1" in graph.constants


def test_rows_are_looked_up_before_they_are_floats(network):
    made, _ = quantized(network, "dynamic-int8", ONNXOptions(), LAYERS)
    (looked_up,) = [node for node in Graph(made).nodes("Gather") if node.input[0] == "table_int8"]
    assert [found.node for found in find(made) if found.rule == "quantized-constant"] == [looked_up.name]
    kept, _ = quantized(network, "dynamic-int8", ONNXOptions(keep_float=("embedding",)), LAYERS)
    assert find(kept) == ()


def test_a_converted_model(untrained, tmp_path):
    given = untrained("pair")
    for precision in ("dynamic-int8", "int4-weights"):
        made = converter.convert(given.source, precision=precision, calibration=None, output=tmp_path / "m.onnx")
        assert made.engine_least_version == ("1.20" if precision == "int4-weights" else "1.14")
        assert made.float_layers == ()
        onnxruntime.InferenceSession(str(made.path), providers=["CPUExecutionProvider"])


def test_a_block_has_a_size_that_engines_know():
    with pytest.raises(ConfigError, match="block_size is 24, expected one of 16, 32, 64, 128, 256"):
        ONNXOptions(block_size=24)
