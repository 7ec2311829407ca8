"""What must stay, and the reason that is given for it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.compression.channels.groups import ChannelGraph, Group, channel_graph
from edgekit.compression.flattening import flat
from tests.compression.channel_cuts import check_random_cut
from tests.keras_models import samples, shaken


class Doubling(layers.Layer):  # type: ignore[misc]
    def call(self, tensor: Any) -> Any:
        return tensor * 2


class Projecting(layers.Layer):  # type: ignore[misc]
    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")

    def call(self, tensor: Any) -> Any:
        return keras.ops.matmul(tensor, self.kernel)


@keras.saving.register_keras_serializable("tests")  # type: ignore[untyped-decorator]
def own_activation(tensor: Any) -> Any:
    return tensor


def graph_of(*stack: Any, shape: tuple[int, ...] = (4,)) -> ChannelGraph:
    """Two Dense layers that could lose channels if nothing between them forbade it."""
    x = keras.Input(shape, name="x")
    outputs = layers.Dense(6, name="first")(x)
    for layer in stack:
        outputs = layer(outputs)
    if len(outputs.shape) == 2:
        outputs = layers.Dense(6, name="second")(outputs)
    return channel_graph(flat(keras.Model(x, layers.Dense(2, name="scores")(outputs))))


def group(graph: ChannelGraph, layer: str) -> Group:
    return next(found for found in graph.groups if layer in found.layers)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.LayerNormalization(name="it"), "takes its statistics over all channels"),
        (layers.RMSNormalization(name="it"), "takes its statistics over all channels"),
        (layers.Softmax(name="it"), "looks at all channels at once"),
        (layers.Activation("softmax", name="it"), "looks at all channels at once"),
        (layers.Activation(own_activation, name="it"), "looks at all channels at once"),
        (layers.Rescaling([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], name="it"), "has a number for each channel"),
        (layers.Normalization(mean=[0.0] * 6, variance=[1.0] * 6, name="it"), "is not known to channel pruning"),
        (Doubling(name="it"), "'it' (Doubling) is not known to channel pruning"),
    ],
)
def test_what_looks_at_all_channels_keeps_them(layer: Any, reason: str) -> None:
    graph = graph_of(layer)
    found = group(graph, "first")
    assert found.fixed == 6
    assert not len(found.units)
    assert "'it'" in found.reason
    assert reason in found.reason
    assert len(group(graph, "second").units) == 6  # behind it all is well


def test_an_activation_of_a_layer_can_look_at_all_channels_too() -> None:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2)(layers.Dense(6, activation="softmax", name="attended")(x)))
    assert "the activation of 'attended' (Dense)" in group(channel_graph(flat(model)), "attended").reason


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (lambda x: keras.ops.sum(x, axis=-1, keepdims=True), "reduces over the channels"),
        (lambda x: x[:, 2:], "picks among the channels"),
        (lambda x: x + np.arange(6, dtype=np.float32), "an array of numbers for each channel"),
        (lambda x: keras.ops.reshape(x, (-1, 2, 3)), "splits or merges the channels"),
        (keras.ops.softmax, "looks at all channels at once"),
        (lambda x: keras.ops.matmul(x, keras.ops.transpose(x)), "is not known to channel pruning"),
    ],
)
def test_operations_that_mix_channels_keep_them(operation: Any, reason: str) -> None:
    x = keras.Input((4,), batch_size=4, name="x")
    model = keras.Model(x, layers.Dense(2, name="scores")(operation(layers.Dense(6, name="first")(x))))
    assert reason in group(channel_graph(flat(model)), "first").reason


def test_a_layer_along_another_axis_keeps_the_channels() -> None:
    """A Dense over the places, as in MLP-Mixer."""
    found = group(graph_of(layers.Permute((2, 1)), layers.Dense(3, name="mixer"), shape=(5, 4)), "first")
    assert found.fixed == 6
    assert "'mixer' (Dense) works along another axis" in found.reason


def test_a_sum_with_the_input_keeps_its_channels() -> None:
    x = keras.Input((6,), name="x")
    model = keras.Model(x, layers.Dense(2)(x + layers.Dense(6, name="residual")(x)))
    assert group(channel_graph(flat(model)), "residual").reason == "they are those of the model's input 'x'"


def test_scores_of_attention_keep_its_heads() -> None:
    x = keras.Input((5, 6), name="x")
    attended, scores = layers.MultiHeadAttention(2, 3, name="attention")(x, x, return_attention_scores=True)
    graph = channel_graph(flat(keras.Model(x, [layers.Dense(2)(attended), scores])))
    heads = next(found for found in graph.groups if found.blocks[0].what == "heads")
    assert heads.reason == "'attention' (MultiHeadAttention) returns the scores of its heads"


def test_a_stateful_layer_keeps_its_units() -> None:
    x = keras.Input((5, 6), batch_size=2, name="x")
    model = keras.Model(x, layers.Dense(2)(layers.LSTM(4, stateful=True, name="lstm")(x)))
    found = group(channel_graph(flat(model)), "lstm")
    assert (found.fixed, found.reason) == (4, "'lstm' (LSTM) keeps its state from batch to batch")


def test_a_layer_of_the_users_own_with_kernels_is_listed_itself() -> None:
    graph = graph_of(Projecting(name="own"))
    assert group(graph, "own").reason == group(graph, "first").reason
    assert "'own' (Projecting) is not known to channel pruning" in group(graph, "own").reason


def test_a_weight_that_is_not_known_keeps_the_channels() -> None:
    """Low-rank adapters add weights that a Dense does not have otherwise."""
    x = keras.Input((4,), name="x")
    adapted = layers.Dense(6, name="adapted")
    model = keras.Model(x, layers.Dense(2)(adapted(x)))
    adapted.enable_lora(2)
    graph = channel_graph(keras.Model(model.inputs, model.outputs))
    assert "'adapted' (Dense) has a weight 'lora_kernel_a' that is not known" in group(graph, "adapted").reason


def test_channels_of_a_residual_sum_go_together() -> None:
    x = keras.Input((4, 4, 3), name="x")
    first = layers.Conv2D(8, 1, name="first")(x)
    second = layers.Conv2D(8, 1, name="second")(first)
    graph = channel_graph(flat(keras.Model(x, layers.Conv2D(2, 1, name="out")(first + second))))
    found = group(graph, "first")
    assert found.layers == ["first", "second"]
    assert len(found.units) == 8


def test_a_sum_of_a_part_keeps_the_rest_free() -> None:
    """A group of two layers of which one is wider: each keeps at least one channel."""
    x = keras.Input((4,), name="x")
    narrow, wide = layers.Dense(3, name="narrow")(x), layers.Dense(5, name="wide")(x)
    both = layers.Concatenate()([narrow, wide])
    model = shaken(keras.Model(x, layers.Dense(2)(both * layers.Dense(8, name="gate")(x))))
    found = group(channel_graph(flat(model)), "narrow")
    assert found.layers == ["narrow", "wide", "gate"]
    for seed in range(3):
        check_random_cut(model, samples(model), seed)
