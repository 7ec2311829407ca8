"""The rebuilding of a trained graph and TensorRT's rules, on graphs made by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from edgekit_onnx.graphs import Graph
from edgekit_onnx.inspection import float_layers
from edgekit_onnx.rules import check_rules
from edgekit_onnx.trained import rebuild, recover_kernel
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ConversionError


def dense(kernel, *, quantized=True, point=None, softmax=False):
    """x -> Q -> DQ -> Reshape -> MatMul(kernel) [-> Softmax -> Q -> DQ]: y, as tf2onnx writes it."""
    tensors = {
        "kernel": kernel.astype(np.float32),
        "scale": np.array(0.01, np.float32),
        "point": np.array(np.uint8(128) if point is None else point),
        "shape": np.array([-1, len(kernel)]),
    }
    pair = lambda source, target: [  # noqa: E731
        helper.make_node("QuantizeLinear", [source, "scale", "point"], [f"{target}_q"], name=f"{target}_Q"),
        helper.make_node("DequantizeLinear", [f"{target}_q", "scale", "point"], [target], name=f"{target}_DQ"),
    ]
    nodes = pair("x", "x_faked") if quantized else [helper.make_node("Identity", ["x"], ["x_faked"], name="same")]
    nodes.append(helper.make_node("Reshape", ["x_faked", "shape"], ["flat"], name="flatten"))
    nodes.append(helper.make_node("MatMul", ["flat", "kernel"], ["product"], name="dense"))
    last = helper.make_node("Softmax", ["product"], ["share"], name="softmax") if softmax else None
    nodes += [last, *pair("share", "y")] if last else [helper.make_node("Relu", ["product"], ["y"], name="relu")]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", len(kernel)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", kernel.shape[1]])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def padded_conv(value):
    """x -> Q -> DQ -> Pad(value) -> Conv: y."""
    tensors = {
        "kernel": integers(9, 2).T.reshape(2, 1, 3, 3).astype(np.float32) / 100,
        "scale": np.array(0.01, np.float32),
        "point": np.array(3, np.uint8),
        "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1]),
        "value": np.array(value, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "point"], ["x_q"], name="Q"),
        helper.make_node("DequantizeLinear", ["x_q", "scale", "point"], ["x_dq"], name="DQ"),
        helper.make_node("Pad", ["x_dq", "pads", "value"], ["padded"], name="pad"),
        helper.make_node("Conv", ["padded", "kernel"], ["y"], name="conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 7, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, 6, 6])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def integers(rows=12, columns=4):
    values = np.random.default_rng(1).integers(-127, 128, (rows, columns))
    values[0] = 127
    return values


def recovered(model):
    graph = Graph(model)
    (node,) = graph.weighted()
    return recover_kernel(graph, node)


def test_a_scale_per_channel_is_recovered():
    scales = np.array([0.01, 0.5, 3e-4, 0.07], np.float32)
    kernel = recovered(dense(integers() * scales))
    np.testing.assert_array_equal(kernel.values, integers())
    np.testing.assert_allclose(kernel.scales, scales, rtol=1e-6)
    assert kernel.axis == 1


def test_a_scale_for_the_whole_kernel_is_recovered():
    values = integers()
    values[:, 1] = np.clip(values[:, 1], -33, 33)  # this channel does not reach 127 steps
    kernel = recovered(dense(values * np.float32(0.013)))
    np.testing.assert_allclose(kernel.values * kernel.scales, values * 0.013, atol=1e-6)


def test_a_channel_of_zeros_has_a_scale():
    values = integers()
    values[:, 2] = 0
    kernel = recovered(dense(values * np.float32(0.02)))
    assert np.all(kernel.scales > 0)
    assert not kernel.values[:, 2].any()


def test_weights_on_no_grid_are_told():
    weights = np.random.default_rng(2).normal(size=(12, 4))
    assert recovered(dense(weights)) is None
    with pytest.raises(ConversionError, match=r"1 kernels were trained for int8, 0 are on their int8 grid .* dense"):
        rebuild(dense(weights), trained_kernels=1)


def test_rebuilding_keeps_the_trained_range_and_passes_the_rules():
    model = dense(integers() * 0.01, point=np.uint8(50), softmax=True)
    rebuild(model, trained_kernels=1)
    onnx.checker.check_model(model, full_check=True)
    check_rules(model)
    graph = Graph(model)
    scales = [float(graph.array(node.input[1])) for node in graph.nodes("QuantizeLinear")]
    assert scales == [pytest.approx((255 - 50) * 0.01 / 127)] * 2  # and again behind the Reshape
    assert float_layers(graph) == ()
    assert graph.producers["y"].op_type == "Softmax"


@pytest.mark.parametrize(("value", "left_float"), [(0.0, ()), (0.3, ("conv (Conv)",))])
def test_a_pair_is_repeated_after_padding_with_zeros(value, left_float):
    model = padded_conv(value)
    rebuild(model, trained_kernels=1)
    onnx.checker.check_model(model, full_check=True)
    assert float_layers(Graph(model)) == left_float


def test_a_pair_is_repeated_after_an_average_pool():
    model = padded_conv(0.0)
    (pad,) = (node for node in model.graph.node if node.op_type == "Pad")
    pad.CopyFrom(
        helper.make_node("AveragePool", ["x_dq"], ["padded"], name="pool", kernel_shape=[2, 2], pads=[1, 1, 1, 1])
    )
    rebuild(model, trained_kernels=1)
    onnx.checker.check_model(model, full_check=True)
    assert float_layers(Graph(model)) == ()


def test_a_layer_without_a_quantized_input_stays_float_and_is_listed():
    model = dense(integers() * 0.01, quantized=False)
    rebuild(model, trained_kernels=1)
    assert float_layers(Graph(model)) == ("dense (MatMul)",)


def test_a_layer_that_was_not_trained_stays_float_and_is_listed():
    model = dense(np.random.default_rng(2).normal(size=(12, 4)))
    rebuild(model, trained_kernels=0)
    assert float_layers(Graph(model)) == ("dense (MatMul)",)


def recurrent():
    """x -> Q -> DQ -> Transpose, whose values a Loop's body reaches for, and multiplies with a kernel from outside."""
    tensors = {
        "kernel": np.eye(4, dtype=np.float32),
        "scale": np.array(0.01, np.float32),
        "point": np.array(3, np.uint8),
        "steps": np.array(3),
        "go": np.array(True),
        "start": np.zeros((1, 4), np.float32),
    }
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["moved", "i"], ["row"], name="row"),
            helper.make_node("MatMul", ["row", "kernel"], ["product"], name="product"),
            helper.make_node("Add", ["state", "product"], ["next"], name="next"),
            helper.make_node("Identity", ["going"], ["going_on"], name="going_on"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 4]),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 4]),
        ],
    )
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "point"], ["x_q"], name="Q"),
        helper.make_node("DequantizeLinear", ["x_q", "scale", "point"], ["x_dq"], name="DQ"),
        helper.make_node("Transpose", ["x_dq"], ["moved"], name="move", perm=[1, 0, 2]),
        helper.make_node("Loop", ["steps", "go", "start"], ["y"], name="loop", body=body),
    ]
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_a_loop_keeps_what_its_body_takes_from_outside_and_stays_float():
    import onnxruntime

    model = recurrent()
    rebuild(model, trained_kernels=0)
    onnx.checker.check_model(model, full_check=True)
    graph = Graph(model)
    assert "kernel" in graph.constants
    assert list(graph.nodes("QuantizeLinear")) == []
    assert float_layers(graph) == ("loop (Loop)",)
    x = np.random.default_rng(0).uniform(0, 1, (1, 3, 4)).astype(np.float32)
    (y,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(y, x.sum(axis=1), rtol=1e-5)


def test_a_range_of_zero_is_refused():
    model = dense(integers() * 0.01)
    (scale,) = (tensor for tensor in model.graph.initializer if tensor.name == "scale")
    scale.CopyFrom(numpy_helper.from_array(np.array(0, np.float32), "scale"))
    with pytest.raises(ConversionError, match="trained range of 'x_faked_Q' is"):
        rebuild(model, trained_kernels=1)


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (
            dense(integers() * 0.01),
            r"zero-point: 'x_faked_Q': its zero point is 128; .*; uint8: 'x_faked_Q': it quantizes to uint8",
        ),
        (
            dense(integers() * 0.01, point=np.uint8(0)),
            r"graph: uint8: 'x_faked_Q': it quantizes to uint8; quantize activations and weights as symmetric",
        ),
        (
            dense(integers() * 0.01, point=np.int8(0), softmax=True),
            r"graph: quantized-softmax: 'y_Q': it quantizes what Softmax 'softmax' gives",
        ),
        (
            dense(np.full((12, 4), np.nan), point=np.int8(0)),
            r"graph: non-finite: 'kernel': 48 of its 48 values are not a number",
        ),
    ],
)
def test_a_broken_rule_is_named_with_its_node(model, rule):
    with pytest.raises(ConversionError, match=rule):
        check_rules(model)


def test_a_dequantized_bias_and_an_empty_graph_break_rules():
    model = dense(integers() * 0.01, point=np.int8(0))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.int32), "bias"))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["bias", "scale", "zero"], ["b"], name="bias_DQ"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int32), "zero"))
    with pytest.raises(ConversionError, match=r"int32-bias: 'bias_DQ': it dequantizes an int32 bias"):
        check_rules(model)
    with pytest.raises(ConversionError, match=r"empty-graph: 'nothing': it has no nodes"):
        check_rules(helper.make_model(helper.make_graph([], "nothing", [], [])))
