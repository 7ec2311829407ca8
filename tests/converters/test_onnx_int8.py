"""int8 after training: ranges by several methods, what is chosen, and what is left in float."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from edgekit_onnx.graphs import Graph
from edgekit_onnx.int8 import quantize
from edgekit_onnx.options import METHODS, ONNXOptions
from edgekit_onnx.ranges import count, find_limits, watch
from edgekit_onnx.rules import check_rules
from edgekit_onnx.running import run_outputs
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ConversionError
from edgekit.ranges import BINS

RNG = np.random.default_rng(5)
WIDTH = 24


@pytest.fixture(scope="module")
def network():
    """Two products with a ReLU between them, a product of activations, and one of zeros."""
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], name="net/hidden_1/MatMul"),
        helper.make_node("Relu", ["a"], ["b"], name="net/hidden_1/Relu"),
        helper.make_node("MatMul", ["b", "second"], ["c"], name="net/scores_1/MatMul"),
        helper.make_node("Transpose", ["c"], ["d"], name="turned", perm=[1, 0]),
        helper.make_node("MatMul", ["c", "d"], ["similar"], name="net/similar_1/MatMul"),
        helper.make_node("Mul", ["x", "zero"], ["nothing"], name="nothing"),
        helper.make_node("MatMul", ["nothing", "second"], ["dead"], name="net/dead_1/MatMul"),
        helper.make_node("Add", ["c", "dead"], ["y"], name="sum"),
    ]
    constants = {
        "first": RNG.normal(0, 0.3, (WIDTH, WIDTH)), "second": RNG.normal(0, 0.3, (WIDTH, WIDTH)), "zero": np.zeros(1),
    }  # fmt: skip
    constants = {name: values.astype(np.float32) for name, values in constants.items()}
    return model(nodes, constants, {"x": ["batch", WIDTH]}, {"y": ["batch", WIDTH], "similar": ["batch", "batch"]})


def model(nodes, constants, inputs, outputs):
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            [numpy_helper.from_array(values, name) for name, values in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    onnx.checker.check_model(made)
    return made


def samples(count, outlier=0.0):
    feeds = [{"x": RNG.normal(0, 1, (1, WIDTH)).astype(np.float32)} for _ in range(count)]
    feeds[1]["x"][0, 0] += outlier
    return feeds


def test_every_method_is_tried_on_samples_held_apart_and_the_best_is_taken(network):
    made, (told, *_) = quantize(network, samples(32, outlier=300), ONNXOptions(), ())
    assert told.startswith("calibration by SNR on 8 samples held apart: ")
    assert all(method in told for method in METHODS)
    assert "min-max" not in told.split(": ")[1].split(",")[0]  # one value of 300 costs it nearly all steps
    onnx.checker.check_model(made, full_check=True)
    check_rules(made)


def test_methods_clip_what_is_rare(network):
    feeds = samples(256, outlier=30)
    found = find_limits(network, watch(network, {"x": -1}, feeds), feeds, methods=METHODS, percentile=99.5)
    limits = {method: found[method]["x"] for method in METHODS}
    assert limits["min-max"] > 25
    assert max(limits["percentile"], limits["entropy"]) < 15
    assert limits["mse"] <= limits["min-max"]


@pytest.mark.parametrize("size", [1.0, 1e-30, 3e30])
def test_magnitudes_are_counted_as_numpy_counts_them(size):
    magnitudes = (np.abs(np.random.default_rng(6).normal(0, 1, (4, 5000))) * size).astype(np.float32)
    peak = float(magnitudes.max())
    expected = np.histogram(magnitudes, BINS, range=(0, peak))[0]
    moved = np.abs(np.cumsum(count(magnitudes, peak)) - np.cumsum(expected))
    assert moved.max() <= 2  # those that float32 puts on the other side of an edge


def test_what_is_not_a_number_is_not_counted_and_the_least_peak_is():
    assert count(np.array([0, np.nan, 2], np.float32), 2.0).nonzero()[0].tolist() == [0, BINS - 1]
    least = float(np.finfo(np.float32).smallest_subnormal)
    assert count(np.array([0, np.nan, least], np.float32), least).sum() == 2


def test_biases_make_up_for_rounded_weights():
    """Inputs with a mean: rounded weights shift the outputs, and the bias takes that back."""
    constants = {"w": RNG.normal(0, 1, (8, 3, 3, 3)).astype(np.float32), "b": np.zeros(8, np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")]
    network = model(nodes, constants, {"x": ["batch", 3, 9, 9]}, {"y": ["batch", 8, 7, 7]})
    feeds = [{"x": RNG.normal(4, 0.5, (1, 3, 9, 9)).astype(np.float32)} for _ in range(8)]
    wanted, shifts = np.concatenate(run_outputs(network, feeds, where="x")), {}
    for correct in (True, False):
        made, _ = quantize(network, feeds, ONNXOptions(calibration="min-max", bias_correction=correct), ())
        got = np.concatenate(run_outputs(made, feeds, where="x"))
        shifts[correct] = np.abs((got - wanted).mean(axis=(0, 2, 3))).max()
    assert shifts[True] < 0.3 * shifts[False]


def test_the_range_is_the_methods(network):
    feeds = samples(4)
    made, _ = quantize(network, feeds, ONNXOptions(calibration="min-max", smoothing=False), ())
    graph = Graph(made)
    (pair,) = [node for node in graph.nodes("QuantizeLinear") if node.input[0] == "x"]
    assert graph.array(pair.input[1]) * 127 == pytest.approx(max(np.abs(feed["x"]).max() for feed in feeds))


def test_few_samples_are_no_ground_for_a_choice(network):
    _, notes = quantize(network, samples(7), ONNXOptions(), ())
    assert "calibration by min-max: 7 samples are too few to choose a method by, give 8" in notes


def test_what_stays_float_is_said_with_its_reason(network):
    options = ONNXOptions(calibration="mse", keep_float=("hid*",))
    made, notes = quantize(network, samples(8), options, ("net", "hidden", "scores", "similar", "dead"))
    assert notes == (
        "left in float, as keep_float says: net/hidden_1/MatMul",
        "left in float, both factors are activations: net/similar_1/MatMul",
        "left in float, what they read is 0 in all samples: net/dead_1/MatMul",
    )
    quantized = [node.name for node in made.graph.node if node.op_type == "MatMul" and "dequantized" in node.input[0]]
    assert quantized == ["net/scores_1/MatMul"]


def test_a_node_that_was_named_anew_has_the_layer_of_its_activation():
    """As tf2onnx names a convolution whose weights it computed."""
    nodes = [
        helper.make_node("MatMul", ["x", "fold__4"], ["MatMul__3:0"], name="MatMul__3"),
        helper.make_node("Add", ["MatMul__3:0", "b"], ["sum__5"], name="sum__5"),
        helper.make_node("Relu", ["sum__5"], ["net/hidden_1/Relu:0"], name="net/hidden_1/Relu"),
        helper.make_node("MatMul", ["net/hidden_1/Relu:0", "k"], ["net/scores_1/MatMul:0"], name="net/scores_1/MatMul"),
    ]
    kernels = {name: RNG.normal(0, 0.3, (WIDTH, WIDTH)).astype(np.float32) for name in ("fold__4", "k")}
    constants = {**kernels, "b": np.ones(WIDTH, np.float32)}
    sizes = ["batch", WIDTH]
    network = model(nodes, constants, {"x": sizes}, {"net/scores_1/MatMul:0": sizes})
    options = ONNXOptions(calibration="mse", keep_float=("hidden",))
    _, notes = quantize(network, samples(8), options, ("hidden", "scores"))
    assert "left in float, as keep_float says: MatMul__3" in notes


def test_a_pattern_without_a_layer_is_refused(network):
    with pytest.raises(ConversionError, match=r"keep_float 'hiden' matches no layer with a kernel .*mean 'hidden'"):
        quantize(network, samples(8), ONNXOptions(keep_float=("hiden",)), ("hidden", "scores"))


def test_samples_that_the_model_does_not_take_are_refused(network):
    with pytest.raises(ConversionError, match="float model: onnxruntime failed on a calibration sample"):
        quantize(network, [{"x": np.zeros((1, 3), np.float32)}] * 8, ONNXOptions(), ())


def test_values_that_overflow_have_no_range(network):
    with pytest.raises(ConversionError, match=r"'net/hidden_1/MatMul' reads values that are not finite"):
        quantize(network, [{"x": np.full((1, WIDTH), np.inf, np.float32)}], ONNXOptions(), ())


def test_eight_bits_stay_close(network, snr_db):
    feeds = samples(40)
    made, _ = quantize(network, feeds, ONNXOptions(), ())
    wanted, got = (np.concatenate(run_outputs(each, feeds, where="x")[::2]) for each in (network, made))
    assert snr_db(wanted, got) > 30
