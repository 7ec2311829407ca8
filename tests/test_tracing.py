from __future__ import annotations

import numpy as np
import pytest

from edgekit.tensors import Quantization
from edgekit.tracing import Grid, canonical, is_generated, keras_layers, short_name

FUSED = ("net_1/relu_1/Relu", "net_1/norm_1/batchnorm/add_1", "net_1/conv_1/convolution", "net_1/norm_1/sub1")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("net_1/relu_1/Relu;net_1/conv_1/convolution", "net_1/relu_1/Relu"),
        ("StatefulPartitionedCall/net_1/conv_1/BiasAdd:0", "net_1/conv_1/BiasAdd"),
        ("net_1/quantized_conv_1/BiasAdd", "net_1/conv_1/BiasAdd"),
        ("net_1/fake_quant_relu_1/Relu", "net_1/relu_1/Relu"),
    ],
)
def test_one_key_for_one_activation(name: str, key: str) -> None:
    assert canonical(name) == key


@pytest.mark.parametrize("name", ["Conv__33:0", "net_1/conv_1/BiasAdd__6:0", "StatefulPartitionedCall_1:0"])
def test_counted_names_mean_nothing_elsewhere(name: str) -> None:
    assert is_generated(canonical(name))
    assert not is_generated(canonical("net_1/conv_1/BiasAdd:0"))


def test_scopes_become_keras_layers_in_the_models_order() -> None:
    assert keras_layers(FUSED, ["image", "conv", "norm", "relu"]) == ("conv", "norm", "relu")


def test_a_layer_whose_own_name_ends_in_a_number() -> None:
    assert keras_layers(["net_1/conv_1_1/convolution"], ["conv", "conv_1"]) == ("conv_1",)
    assert keras_layers(["net_1/conv_1/convolution"], ["conv", "conv_1"]) == ("conv",)
    assert keras_layers(["net/conv_1/convolution"], ["conv_1"]) == ("conv_1",)


def test_the_innermost_layer_counts() -> None:
    assert keras_layers(["outer_1/block_1/dense_1/MatMul"], ["block", "dense"]) == ("dense",)


def test_unknown_layers_get_the_scope_around_the_product() -> None:
    assert short_name(FUSED) == "conv"
    assert short_name(["serving_scores"]) == "serving_scores"
    assert short_name([]) == "?"


def test_the_names_of_pytorchs_exports_become_modules() -> None:
    assert short_name(["/layer1/layer1.0/conv1/Conv_output_0", "/layer1/layer1.0/conv1/Conv"]) == "layer1.0.conv1"
    assert short_name(["/encoder/layer.0/attention/query/MatMul"]) == "encoder.layer.0.attention.query"
    assert short_name(["/Softmax"]) == "Softmax"


def test_a_grids_limits_and_rounding() -> None:
    grid = Grid(Quantization(0.5, -128), "int8")
    assert grid.limits == (0.0, 127.5)
    np.testing.assert_array_equal(grid.round(np.array([-3.0, 0.6, 500.0], np.float32)), [0.0, 0.5, 127.5])
