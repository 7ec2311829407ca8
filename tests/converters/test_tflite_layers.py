from __future__ import annotations

import numpy as np
import pytest
from edgekit_tflite.layers import name_operators
from edgekit_tflite.reading import Role, TFLiteModel, TFLiteOperator, TFLiteTensor


def tensor(name, index=0, kernel=False):
    role = Role.PARAMETER if kernel else Role.ACTIVATION
    return TFLiteTensor((0, index), name, (4, 4), "float32", (), (), np.zeros(64 if kernel else 0, np.uint8), role)


def model(*operators, outputs=None):
    return TFLiteModel({}, outputs or {}, operators)


def layers(name, *known):
    operator = TFLiteOperator("ADD", (), (tensor(name),))
    return name_operators(model(operator), known)[0].layers


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("net_1/conv_1/convolution", ("conv",)),  # Keras counts the uses of a scope
        ("net_1/conv_1_1/convolution", ("conv_1",)),
        ("net_1/dense_2_3/MatMul", ("dense_2",)),  # a shared layer's second use
        ("net_1/relu_1/Relu;net_1/norm_1/add;net_1/conv_1/convolution", ("relu", "norm", "conv")),
        ("net_1/block_1/conv_1/convolution", ("block", "conv")),
        ("net_1/norm_1/add", ("norm",)),  # an operation, not the layer of that name
        ("net_1/Add", ()),
    ],
)
def test_a_scope_is_a_layer_s_name_with_the_number_of_its_use(name, found):
    assert layers(name, "conv", "conv_1", "dense_2", "relu", "norm", "block", "add") == found


def test_the_operator_of_an_output_is_known_by_its_kernel_and_by_the_output():
    end = tensor("StatefulPartitionedCall_1:0", 9)
    operator = TFLiteOperator("FULLY_CONNECTED", (tensor("net_1/dense_1/MatMul", 1, kernel=True),), (end,))
    (named,) = name_operators(model(operator, outputs={"scores": end}), ("dense", "scores"))
    assert named.layers == ("scores", "dense")
    assert named.scope == "StatefulPartitionedCall_1:0;"


def test_a_file_of_unknown_layers_has_its_own_names():
    operator = TFLiteOperator("ADD", (), (tensor("model/add/add;model/relu/Relu"),))
    assert name_operators(model(operator), ())[0].layers == ("model/add/add", "model/relu/Relu")
