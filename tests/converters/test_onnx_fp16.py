"""float16 with islands of float32, on nets that need them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from edgekit_onnx.fp16 import halve
from edgekit_onnx.halving import cast, simulate
from edgekit_onnx.running import run_outputs
from onnx import TensorProto, helper

from tests.converters.test_onnx_int8 import model

RNG = np.random.default_rng(6)
WIDTH = 16
FLOATS = frozenset("xabcy")


def net(*nodes, **constants):
    """From x to y, both (batch, WIDTH)."""
    made = [helper.make_node(kind, list(reads), [writes], name=name, **set) for name, kind, reads, writes, set in nodes]
    arrays = {name: values.astype(np.int64 if name == "axes" else np.float32) for name, values in constants.items()}
    return model(made, arrays, {"x": ["batch", WIDTH]}, {"y": ["batch", WIDTH]})


def feeds(count, scale=1.0):
    return [{"x": (scale * RNG.normal(0, 1, (1, WIDTH))).astype(np.float32)} for _ in range(count)]


def error(network, half, given):
    wanted, got = (np.concatenate(run_outputs(each, given, where="x")) for each in (network, half))
    return float(np.abs(wanted - got).max() / np.abs(wanted).max())


@pytest.fixture(scope="module")
def overflowing():
    """A square of hundreds in the middle, which float16 cannot hold; its root can be held again."""
    return net(
        ("wide", "Mul", ("x", "many"), "a", {}),
        ("square", "Mul", ("a", "a"), "b", {}),
        ("root", "Sqrt", ("b",), "c", {}),
        ("back", "Div", ("c", "many"), "y", {}),
        many=np.array([500.0]),
    )


def test_what_overflows_is_an_island(overflowing):
    given = feeds(12)
    made = halve(overflowing, given)
    assert set(made.islands) == {"square", "root"}
    assert error(overflowing, made.model, given) < 2e-3
    assert not np.isfinite(error(overflowing, simulate(overflowing, [], FLOATS), given))  # the planted overflow
    assert made.notes[0].startswith("float16 with 2 nodes in float32: 2 reaches ")
    assert "on 3 samples held apart" in made.notes[0]
    onnx.checker.check_model(made.model, full_check=True)


def test_an_island_hands_on_no_float16_inside(overflowing):
    half = halve(overflowing, feeds(12)).model
    producers = {name: node for node in half.graph.node for name in node.output}
    (root,) = (node for node in half.graph.node if node.name == "root")
    way = [producers[root.input[0]].op_type]
    while way[-1] in ("Identity", "Cast"):
        way.append(producers[producers[root.input[0]].input[0]].op_type)
        assert way[-2] != "Cast"
    assert way[-1] == "Mul"


def test_a_large_reduction_is_an_island():
    """Each term is small enough, their sum is not."""
    network = net(
        ("large", "Mul", ("x", "many"), "a", {}),
        ("mean", "ReduceMean", ("a", "axes"), "m", {"keepdims": 1}),
        ("y", "Sub", ("a", "m"), "y", {}),
        many=np.array([4000.0]),
        axes=np.array([1]),
    )
    made = halve(network, feeds(12))
    assert made.islands == ("mean",)
    assert "sums up to" in made.notes[0]


def test_a_constant_that_float16_cannot_hold_stays():
    network = net(
        ("masked", "Add", ("x", "far"), "a", {}),
        ("y", "Softmax", ("a",), "y", {}),
        far=np.where(np.arange(WIDTH) % 2, -1e9, 0),
    )
    given = feeds(12)
    made = halve(network, given)
    assert made.islands == ("masked", "y")
    assert error(network, made.model, given) < 1e-3


def test_a_shared_constant_is_cut_for_nobody():
    network = net(
        ("scaled", "Mul", ("x", "large"), "a", {}),
        ("y", "Div", ("a", "large"), "y", {}),
        large=np.array([1e6]),
    )
    given = feeds(12)
    half = cast(network, ["scaled", "y"])
    assert error(network, half, given) < 1e-3
    half = cast(network, ["y"])
    values = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert values == {"large": TensorProto.FLOAT16, "large_float32": TensorProto.FLOAT}


def test_islands_are_widened_until_the_outputs_agree():
    """A difference of near numbers loses what float16 rounds off before it: nothing overflows, much is lost."""
    network = net(
        ("lifted", "Add", ("x", "far"), "a", {}),
        ("y", "Sub", ("a", "far"), "y", {}),
        far=np.array([2000.0]),
    )
    given = feeds(16)
    made = halve(network, given)
    assert "lifted" in made.islands
    assert "imprecise in float16" in made.notes[0]
    assert error(network, made.model, given) < 2e-3


def test_without_samples_a_fixed_list_stays_float32():
    network = net(("s", "Softmax", ("x",), "a", {}), ("y", "Mul", ("a", "a"), "y", {}))
    made = halve(network, [])
    assert made.islands == ("s",)
    assert made.notes == ("float16 with 1 node in float32: 1 by a fixed list (s); without calibration data",)


def test_a_small_net_is_float16_throughout():
    made = halve(net(("y", "Relu", ("x",), "y", {})), feeds(12))
    assert made.islands == ()
    assert made.notes[0].startswith(
        "float16 throughout: rounded so, cosine 1.000000 to float32 on 3 samples held apart"
    )


def test_the_simulation_rounds_what_the_cast_graph_holds_in_float16(overflowing):
    given = feeds(3)
    wanted = [feed["x"].astype(np.float16).astype(np.float32) for feed in given]
    network = net(("a", "Relu", ("x",), "a", {}), ("y", "Neg", ("a",), "y", {}))
    got = run_outputs(simulate(network, [], FLOATS), given, where="x")
    np.testing.assert_array_equal(np.concatenate(got), -np.maximum(np.concatenate(wanted), 0))
    whole = run_outputs(simulate(network, ["a", "y"], FLOATS), given, where="x")
    np.testing.assert_array_equal(np.concatenate(whole), -np.maximum(np.concatenate([f["x"] for f in given]), 0))
