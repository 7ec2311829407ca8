"""Outliers of activations that move into the weights, and tables of embeddings in int8."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from edgekit_onnx.activations import list_activations, list_rows, trained_kernels
from edgekit_onnx.graphs import Graph
from edgekit_onnx.int8 import quantize
from edgekit_onnx.options import ONNXOptions
from edgekit_onnx.qdq import round_weights
from edgekit_onnx.ranges import Seen, watch
from edgekit_onnx.rules import check_rules
from edgekit_onnx.running import run_outputs
from edgekit_onnx.smoothing import Smoothed, choose_factors, smooth
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ConversionError
from edgekit.ranges import snr_db

RNG = np.random.default_rng(9)
WIDTH = 32
LOUD = 5  # a channel far above the others, as LayerNorms of encoders have
PRODUCTS = ("first", "second")


def made(nodes, constants, inputs, outputs):
    graph = helper.make_graph(
        nodes, "net", inputs, outputs, [numpy_helper.from_array(values, name) for name, values in constants.items()]
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(network, full_check=True)
    return network


def values(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.fixture(scope="module")
def encoder():
    """Two products that read one LayerNorm, whose output a residual reads too; the second kernel is transposed."""
    scale = np.ones(WIDTH, np.float32)
    scale[LOUD] = 60
    constants = {
        "scale": scale, "shift": RNG.normal(0, 0.1, WIDTH).astype(np.float32),
        "a": RNG.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32),
        "b": RNG.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["normed"], name="norm"),
        helper.make_node("MatMul", ["normed", "a"], ["m"], name="first"),
        helper.make_node("Gemm", ["normed", "b"], ["n"], name="second", transB=1),
        helper.make_node("Add", ["m", "n"], ["sum"], name="sum"),
        helper.make_node("Add", ["sum", "normed"], ["y"], name="residual"),
    ]
    return made(
        nodes,
        constants,
        [values("x", ["batch", WIDTH])],
        [values("sum", ["batch", WIDTH]), values("y", ["batch", WIDTH])],
    )


@pytest.fixture(scope="module")
def feeds():
    return [{"x": RNG.normal(0, 1, (1, WIDTH)).astype(np.float32)} for _ in range(64)]


def smoothed_by(network, tensors, feeds):
    return smooth(network, PRODUCTS, watch(network, dict.fromkeys(tensors, -1), feeds))


def test_the_float_model_computes_what_it_did_to_the_last_bit(encoder, feeds):
    made = smoothed_by(encoder, ["normed"], feeds)
    smoothed, (note,) = made.model, made.notes
    onnx.checker.check_model(smoothed, full_check=True)
    assert note.startswith("outliers of 1 of 1 activations moved into the weights that read them: their products gain ")
    factors = 1 / Graph(smoothed).array("normed_smoothed_by")
    assert np.argmax(factors) == LOUD
    for before, after in zip(*(run_outputs(each, feeds, where="x") for each in (encoder, smoothed)), strict=True):
        np.testing.assert_array_equal(before, after)
    seen = watch(smoothed, {"normed_smoothed": -1}, feeds)["normed_smoothed"]
    for told, own in zip(vars(made.seen["normed_smoothed"]).values(), vars(seen).values(), strict=True):
        np.testing.assert_allclose(told, own, rtol=1e-6)


def test_eight_bits_lose_less(encoder, feeds):
    wanted, found = run_outputs(encoder, feeds, where="x")[::2], {}
    for smoothing in (True, False):
        int8, _ = quantize(encoder, feeds, ONNXOptions(calibration="min-max", smoothing=smoothing), ())
        check_rules(int8)
        found[smoothing] = snr_db(wanted, run_outputs(int8, feeds, where="x")[::2])
    assert found[True] > found[False] + 3


def test_kernels_are_compared_without_the_factors(encoder, feeds):
    int8, _ = quantize(encoder, feeds, ONNXOptions(calibration="min-max"), ())
    wanted, found = (
        trained_kernels(graph, list_activations(graph))
        for graph in (Graph(onnx.shape_inference.infer_shapes(each)) for each in (encoder, int8))
    )
    assert set(wanted) == set(found) == {"m", "n"}
    for key in wanted:
        assert snr_db([wanted[key].values], [found[key].values]) > 30


def test_what_reads_an_activation_past_its_factors(encoder, feeds):
    int8, _ = quantize(encoder, feeds, ONNXOptions(calibration="min-max"), ())
    graph = Graph(onnx.shape_inference.infer_shapes(int8))
    rows = {row.name: row for row in list_rows(graph, list_activations(graph))}
    readers = {name: row.readers for name, row in rows.items()}
    assert readers == {
        "x": ("normed",),
        "normed": ("m", "n", "y"),
        "m": ("sum",),
        "n": ("sum",),
        "sum": ("y",),
        "y": (),
    }
    assert {name: row.setting for name, row in rows.items() if row.setting} == {"m": "first", "n": "second"}


def test_channels_of_one_size_stay_as_they_are(feeds):
    nodes = [helper.make_node("MatMul", ["x", "a"], ["y"], name="first")]
    kernel = RNG.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32)
    plain = made(nodes, {"a": kernel}, [values("x", ["batch", WIDTH])], [values("y", ["batch", WIDTH])])
    assert_unchanged(plain, smoothed_by(plain, ["x"], feeds))


def test_a_kernel_that_another_node_takes_is_not_scaled(feeds):
    constants = {"a": RNG.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32), "loud": np.ones(WIDTH, np.float32)}
    constants["loud"][LOUD] = 60
    nodes = [
        helper.make_node("Mul", ["x", "loud"], ["uneven"], name="uneven"),
        helper.make_node("MatMul", ["uneven", "a"], ["m"], name="first"),
        helper.make_node("MatMul", ["m", "a"], ["y"], name="second"),
    ]
    shared = made(nodes, constants, [values("x", ["batch", WIDTH])], [values("y", ["batch", WIDTH])])
    assert_unchanged(shared, smoothed_by(shared, ["uneven", "m"], feeds))


def assert_unchanged(network, made: Smoothed):
    assert made.model is network
    assert made.notes == ()


def test_factors_are_powers_of_two_and_channels_of_zeros_keep_theirs():
    rows = RNG.normal(0, 1, (256, 4)) * [1, 100, 0, 1]
    weights = RNG.normal(0, 1, (4, 16)) * [[1], [1], [1], [0]]
    factors, gain = choose_factors(_seen(rows, rows), weights)
    assert gain > 3
    assert factors[1] > 8 * factors[0]
    assert tuple(factors[2:]) == (1, 1)
    np.testing.assert_array_equal(np.frexp(factors)[0], 0.5)


def test_channels_that_other_samples_make_larger_keep_their_room():
    """As the pooled features of an image network: each photo has some channels that no other has."""
    rows = np.abs(RNG.normal(0, 1, (256, 64))) * np.exp(RNG.normal(0, 1, 64))
    others = rows * np.where(RNG.random(rows.shape) < 0.02, 8, 1)
    weights = RNG.normal(0, 1, (64, 16))
    assert choose_factors(_seen(rows, rows), weights)[1] > 1
    assert choose_factors(_seen(rows, others), weights)[1] < 1


def _seen(early, rows):
    peaks = np.abs(early).max(axis=0)
    return Seen(peaks, peaks, early.mean(axis=0), rows)


@pytest.fixture(scope="module")
def lookup():
    """Rows of a large table, one much quieter than the others, and of a narrow one, as of anchors."""
    table = RNG.normal(0, 1, (2048, WIDTH)).astype(np.float32)
    table[7] /= 1000
    constants = {"table": table, "anchors": RNG.normal(0, 1, (20_000, 4)).astype(np.float32), "a": table[:WIDTH]}
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["rows"], name="net/embedding_1/GatherV2"),
        helper.make_node("Gather", ["anchors", "tokens"], ["boxes"], name="net/boxes_1/GatherV2"),
        helper.make_node("MatMul", ["rows", "a"], ["y"], name="net/dense_1/MatMul"),
    ]
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT32, ["batch"])
    return made(
        nodes,
        constants,
        [tokens],
        [values(name, ["batch", width]) for name, width in (("rows", WIDTH), ("boxes", 4), ("y", WIDTH))],
    )


LAYERS = ("net", "embedding", "boxes", "dense")
TOKENS = [{"tokens": np.array([index], np.int32)} for index in range(16)]


def test_a_table_is_stored_in_int8_with_a_scale_for_each_row(lookup):
    int8, _ = quantize(lookup, TOKENS, ONNXOptions(calibration="min-max"), LAYERS)
    check_rules(int8)
    assert lookup.ByteSize() - int8.ByteSize() > 2.5 * 2048 * WIDTH  # of the 4 bytes of each value 1 is left
    rows, boxes, _ = run_outputs(int8, [{"tokens": np.array([7, 8], np.int32)}], where="x")
    table = Graph(lookup).array("table")
    rounded = round_weights(table, axis=0)
    np.testing.assert_array_equal(rows, rounded.values[[7, 8]] * rounded.scales[[7, 8], None])
    assert snr_db([table[[7]]], [rows[:1]]) > 40  # by its own scale
    np.testing.assert_array_equal(boxes, Graph(lookup).array("anchors")[[7, 8]])


def test_keep_float_names_tables_too(lookup):
    int8, notes = quantize(lookup, TOKENS, ONNXOptions(calibration="min-max", keep_float=("embed*",)), LAYERS)
    assert "left in float, as keep_float says: net/embedding_1/GatherV2" in notes
    rows, *_ = run_outputs(int8, TOKENS[:1], where="x")
    np.testing.assert_array_equal(rows, Graph(lookup).array("table")[:1])


def test_tables_are_among_the_names_that_a_wrong_pattern_is_told(lookup):
    with pytest.raises(ConversionError, match=r"keep_float 'embeding' matches no layer .*did you mean 'embedding'"):
        quantize(lookup, TOKENS, ONNXOptions(keep_float=("embeding",)), LAYERS)
