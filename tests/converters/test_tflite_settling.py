"""Which operators stay float where weights alone are integers."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from edgekit_tflite import TFLiteOptions
from edgekit_tflite.layers import NamedOperator
from edgekit_tflite.reading import Role, TFLiteOperator, TFLiteTensor
from edgekit_tflite.settling import settle


def operator(name, kind, kernel):
    def tensor(index, shape, role):
        data = np.zeros(0 if role is Role.ACTIVATION else 4 * prod(shape), np.uint8)
        return TFLiteTensor((0, index), name if index else f"{name}_in", shape, "float32", (), (), data, role)

    ends = tensor(0, (1, 8), Role.ACTIVATION), tensor(1, (1, 8), Role.ACTIVATION)
    made = TFLiteOperator(kind, (ends[0], tensor(2, kernel, Role.PARAMETER)), (ends[1],))
    return NamedOperator(made, (name,))


NETWORK = (
    operator("stem", "CONV_2D", (32, 3, 3, 3)),  # 864
    operator("depth", "DEPTHWISE_CONV_2D", (1, 3, 3, 64)),  # 576
    operator("wide", "CONV_2D", (128, 1, 1, 64)),
    operator("dense", "FULLY_CONNECTED", (1000, 128)),
)


def precisions(network, precision, **settings):
    settled = settle(network, precision, TFLiteOptions(**settings), lambda kind, setting: True)
    return {named.layers[0]: setting.precision for named, setting in settled}


@pytest.mark.parametrize("precision", ["dynamic-int8", "int4-weights"])
def test_the_smallest_kernels_stay_float_up_to_a_hundredth_of_all_weights(precision):
    found = precisions(NETWORK, precision)
    assert found == {"stem": precision, "depth": "fp32", "wide": precision, "dense": precision}
    larger = (*NETWORK[:3], operator("dense", "FULLY_CONNECTED", (1000, 1280)))
    assert precisions(larger, precision)["stem"] == "fp32"
    assert precisions((*larger, operator("more", "CONV_2D", (1024, 1, 1, 1))), precision)["more"] == precision


def test_a_small_network_keeps_nothing_float():
    assert set(precisions(NETWORK[:2], "dynamic-int8").values()) == {"dynamic-int8"}


def test_integer_activations_keep_nothing_float():
    assert set(precisions(NETWORK, "int8").values()) == {"int8"}


def test_a_pattern_has_the_last_word():
    found = precisions(NETWORK, "dynamic-int8", ops={"DEPTHWISE_CONV_2D": "dynamic-int8"}, keep_float=("wide",))
    assert (found["depth"], found["wide"]) == ("dynamic-int8", "fp32")
