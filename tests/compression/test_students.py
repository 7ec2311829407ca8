from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.compression.steps import Distill
from edgekit.compression.students import make_student
from edgekit.errors import ModelError
from edgekit.loading import LoadedModel


def residual(blocks: int = 4, width: int = 8) -> Any:
    keras.utils.set_random_seed(0)
    image = x = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(width, 3, padding="same", name="stem")(x)
    for number in range(blocks):
        branch = layers.Conv2D(width, 3, padding="same", name=f"block_{number}_conv")(x)
        branch = layers.BatchNormalization(name=f"block_{number}_norm")(branch)
        x = layers.Add(name=f"block_{number}_add")([x, branch])
        x = layers.ReLU(name=f"block_{number}_relu")(x)
    outputs = layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, outputs, name="residual")


def transformer(pairs: int = 4) -> Any:
    keras.utils.set_random_seed(0)
    words = x = keras.Input((6, 16), name="words")
    for number in range(pairs):
        heard = layers.MultiHeadAttention(2, 8, name=f"attention_{number}")(x, x)
        x = layers.Add(name=f"heard_{number}")([x, heard])
        x = x + layers.Dense(16, name=f"thought_{number}")(layers.LayerNormalization()(x))
    return keras.Model(words, layers.Dense(3, name="scores")(layers.GlobalAveragePooling1D()(x)))


def chain() -> Any:
    words = x = keras.Input((6, 8), name="words")
    for number in range(4):
        x = layers.Dropout(0.1)(layers.LSTM(8, return_sequences=True, name=f"memory_{number}")(x))
    return keras.Model(words, layers.Dense(3, name="scores")(layers.Flatten()(x)))


def names(model: Any, start: str) -> list[str]:
    return [layer.name for layer in model.layers if layer.name.startswith(start)]


def test_half_the_residual_blocks_stay_with_their_weights() -> None:
    teacher = residual()
    student, notes = make_student(teacher, Distill(depth=0.5))
    assert {"block_0_conv", "block_2_conv"} <= set(names(student, "block"))
    assert not {"block_1_conv", "block_3_conv"} & set(names(student, "block"))
    for layer in student.layers:
        for kept, weight in zip(layer.get_weights(), teacher.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(kept, weight)
    assert str(notes[0]) == "distill: depth 0.5 left out the 2 blocks that end in block_1_add, block_3_add"


def test_attention_and_feed_forward_go_together() -> None:
    student, _ = make_student(transformer(), Distill(depth=0.5))
    assert names(student, "attention") == ["attention_0", "attention_2"]
    assert names(student, "thought") == ["thought_0", "thought_2"]


def test_a_chain_of_alike_layers_has_blocks_too() -> None:
    student, _ = make_student(chain(), Distill(depth=0.5))
    assert names(student, "memory") == ["memory_0", "memory_2"]
    assert len(names(student, "dropout")) == 2


def test_a_teacher_with_nested_models_has_a_flat_student() -> None:
    inner = residual()
    image = keras.Input((8, 8, 1), name="image")
    outer = keras.Model(image, layers.Softmax(name="probabilities")(inner(image)))
    student, _ = make_student(outer, Distill(depth=0.5))
    assert names(student, "block_")[0] == "block_0_conv"
    assert not names(student, "block_1_conv")


def test_a_dropped_block_leaves_what_the_rest_computes() -> None:
    teacher = residual()
    student, notes = make_student(teacher, Distill(drop=("block_1_*", "block_3_relu")))
    assert not names(student, "block_1")
    assert not names(student, "block_3_relu")
    assert str(notes[0]) == "distill: left out 5 of the teacher's 20 layers"
    for norm in ("block_0_norm", "block_2_norm"):
        np.testing.assert_array_equal(student.get_layer(norm).gamma, teacher.get_layer(norm).gamma)
    image = np.random.default_rng(0).normal(0, 1, (3, 8, 8, 1)).astype(np.float32)
    silent = residual()
    silent.set_weights(teacher.get_weights())
    silent.get_layer("block_1_norm").gamma.assign(np.zeros(8))
    # A block whose branch is silent is its own ReLU of what is positive already.
    got = keras.Model(student.input, student.get_layer("block_2_conv").output).predict(image, verbose=0)
    wanted = keras.Model(silent.input, silent.get_layer("block_2_conv").output).predict(image, verbose=0)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "step", "message"),
    [
        (residual, Distill(drop=("blok_*",)), r"Distill.drop: 'blok_\*' matches no layer; known: block_0_add"),
        (residual, Distill(drop=("stem",)), r"Distill.drop: nothing that matches stem can be left out"),
        (residual, Distill(drop=("logits",)), r"nothing that matches logits can be left out"),
        (
            residual,
            Distill(drop=("block_0_conv", "stem")),
            r"Distill.drop: layer 'stem' \(Conv2D\) cannot be left out: its output has another shape",
        ),
        (residual, Distill(depth=0.9), r"Distill.depth 0.9 keeps all 4 repeated blocks of 'residual'; lower it"),
        (lambda: residual(0), Distill(depth=0.5), r"Distill.depth: 'residual' has no repeated blocks"),
    ],
)
def test_nothing_to_leave_out(model: Any, step: Distill, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_student(model(), step)


def test_a_narrow_student_has_fewer_channels_everywhere_but_at_the_end(loaded: LoadedModel) -> None:
    student, _ = make_student(loaded.model, Distill(width=0.5))
    assert student.get_layer("conv").filters == 4
    assert student.get_layer("depthwise").get_weights()[0].shape == (3, 3, 4, 1)
    assert student.get_layer("probabilities").units == 10
    assert student.output_shape == loaded.model.output_shape


def test_large_channel_counts_stay_multiples_of_eight() -> None:
    student, _ = make_student(residual(width=40), Distill(width=0.4))
    assert student.get_layer("block_0_conv").filters == 16


def test_a_depthwise_convolution_written_with_groups_stays_one() -> None:
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 1, name="expand")(image)
    x = layers.Conv2D(32, 3, groups=32, name="depthwise")(x)
    x = layers.Conv2D(32, 1, groups=4, name="grouped")(x)
    teacher = keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    student, _ = make_student(teacher, Distill(width=0.5))
    assert student.get_layer("depthwise").kernel.shape == (3, 3, 1, 16)
    assert student.get_layer("grouped").kernel.shape == (1, 1, 4, 16)


def test_the_layer_behind_a_last_activation_keeps_its_width() -> None:
    x = keras.Input((6, 6, 1), name="x")
    hidden = layers.Conv2D(4, 3, name="hidden")(x)
    pooled = layers.GlobalAveragePooling2D(name="pooled")(layers.Conv2D(2, 3, name="last")(hidden))
    scores = layers.Softmax(name="scores")(layers.Dense(4, name="logits")(layers.Flatten()(hidden)))
    student, _ = make_student(keras.Model(x, [scores, pooled]), Distill(width=0.1))
    assert student.get_layer("hidden").filters == 1
    assert [tensor.shape for tensor in student.outputs] == [(None, 4), (None, 2)]


def test_recurrent_wrapped_and_reshaped_layers_are_narrowed() -> None:
    words = keras.Input((6, 8), name="words")
    x = layers.Bidirectional(layers.GRU(8, return_sequences=True), name="both_ways")(words)
    x = layers.TimeDistributed(layers.Dense(12), name="each")(x)
    x = layers.Dense(72, name="squeezed")(layers.Reshape((72,), name="row")(x))
    student, _ = make_student(keras.Model(words, layers.Dense(2)(x)), Distill(width=0.5))
    assert student.get_layer("both_ways").output.shape == (None, 6, 8)
    assert student.get_layer("each").output.shape == (None, 6, 6)
    assert student.get_layer("row").output.shape == (None, 36)
    assert student.get_layer("squeezed").units == 32


def test_wrapped_layers_are_built_for_what_they_get_now() -> None:
    words = keras.Input((6,), dtype="int32", name="words")
    x = layers.Bidirectional(layers.GRU(8, return_sequences=True))(layers.Embedding(20, 16)(words))
    x = layers.Bidirectional(layers.LSTM(8))(x)
    student, _ = make_student(keras.Model(words, layers.Dense(3)(x)), Distill(width=0.5))
    assert student(np.zeros((2, 6), np.int32)).shape == (2, 3)


def test_a_transformer_is_narrowed_where_an_embedding_begins_it() -> None:
    words = keras.Input((6,), dtype="int32", name="words")
    x = layers.Embedding(50, 32, name="embedding")(words)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 16, name="attention")(x, x))
    student, _ = make_student(
        keras.Model(words, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))), Distill(width=0.5)
    )
    assert student.get_layer("embedding").output_dim == 16
    assert student.get_layer("attention").key_dim == 8
    assert student.count_params() < 0.4 * (50 * 32 + 4 * 32 * 33)


def test_a_width_that_breaks_the_graph_names_the_layer() -> None:
    x = keras.Input((4, 4, 3), name="x")
    outputs = layers.Add(name="sum")([x, layers.Conv2D(3, 1, name="conv")(x)])
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(outputs)), name="broken")
    with pytest.raises(ModelError, match=r"layer 'sum' \(Add\) does not fit into the student .*; give a student model"):
        make_student(model, Distill(width=0.7))


def test_width_and_depth_together() -> None:
    student, _ = make_student(residual(width=16), Distill(width=0.5, depth=0.25))
    assert [name for name in names(student, "block") if "conv" in name] == ["block_0_conv"]
    assert student.get_layer("block_0_conv").filters == 8
