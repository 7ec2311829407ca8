"""Keras 3 models that hold each thing a bridge can stumble over, and how far two models are apart."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops


def apart(before: Any, after: Any, inputs: list[np.ndarray]) -> float:
    """The largest difference of two models' outputs, in units of the output's scale."""
    wanted, got = _outputs(before, inputs), _outputs(after, inputs)
    assert [array.shape for array in wanted] == [array.shape for array in got]
    pairs = zip(wanted, got, strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6)) for a, b in pairs)


def random_inputs(model: Any, samples: int = 3) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    found = []
    for tensor in model.inputs:
        shape = (samples, *tensor.shape[1:])
        whole = "int" in str(tensor.dtype)
        found.append(generator.integers(0, 5, shape).astype("int32") if whole else generator.normal(0, 1, shape))
    return [array if array.dtype == np.int32 else array.astype(np.float32) for array in found]


def _outputs(model: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    is_keras_3 = isinstance(model, keras.Model)
    structure = getattr(model, "_inputs_struct", None) if is_keras_3 else model._nested_inputs
    if isinstance(structure, dict):
        packed = tf.nest.pack_sequence_as(structure, inputs)
    else:
        packed = inputs[0] if len(inputs) == 1 else inputs
    return [np.asarray(array) for array in tf.nest.flatten(model(packed, training=False))]


def preprocessing() -> Any:
    """Layers of settings, weights in Normalization, activations that tf_keras lacks, regularizers and constraints."""
    adapted = layers.Normalization(name="adapted")
    adapted.adapt(np.random.default_rng(0).normal(3, 2, (40, 16, 16, 3)).astype(np.float32))
    stack = [
        keras.Input((16, 16, 3), name="image"),
        layers.Rescaling(1 / 3, offset=-0.5),
        adapted,
        layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]),
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.1),
        layers.Resizing(12, 12),
        layers.CenterCrop(10, 10),
        layers.Conv2D(8, 3, padding="same", use_bias=False, kernel_regularizer="l2", name="conv"),
        layers.BatchNormalization(epsilon=1e-2, momentum=0.8, name="norm"),
        layers.Activation("hard_silu", name="hard"),
        layers.SeparableConv2D(6, 3, activation="hard_sigmoid"),
        layers.LeakyReLU(negative_slope=0.1),
        layers.SpatialDropout2D(0.1),
        layers.UpSampling2D(interpolation="bilinear"),
        layers.Conv2DTranspose(4, 3, strides=2, activation="leaky_relu"),
        layers.PReLU(shared_axes=[1, 2]),
        layers.GlobalMaxPooling2D(),
        layers.Dense(5, kernel_constraint=keras.constraints.MaxNorm(3.0), activation="gelu"),
    ]
    return keras.Sequential(stack, name="preprocessing")


def operators() -> Any:
    """Operators that become layers, and operators that become TensorFlow calls."""
    x, aux = keras.Input((5, 6), name="x"), keras.Input((6,), name="aux")
    attention, scores = layers.MultiHeadAttention(2, 3, name="attention")(
        x, x, return_attention_scores=True, use_causal_mask=True
    )
    constant = np.linspace(-1, 1, 6, dtype=np.float32)
    normed = ops.relu(x * 0.5 + 1.0) / ops.sqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-3)
    outputs = [
        attention, scores, normed, x * constant, ops.subtract(constant, x), 1 - x, x / 3, x / 4, -x, abs(x) ** 2,
        ops.concatenate([ops.mean(x, axis=1), aux], axis=-1), ops.matmul(attention, ops.swapaxes(x, 1, 2)),
        ops.stack(ops.split(x, 3, axis=-1), axis=1), ops.where(x > 0, x, -x), ops.einsum("btc,bsc->bts", x, normed),
        ops.cast(ops.argmax(x, axis=-1), "float32"), ops.pad(x, ((0, 0), (1, 1), (0, 0))), ops.take(x, [0, 2], axis=1),
        ops.softmax(x), ops.log_softmax(x), ops.tile(x, (1, 2, 1)), ops.logsumexp(x, axis=1), ops.minimum(x, 0.3),
        ops.std(x, axis=1), ops.flip(x, 1), ops.leaky_relu(x, 0.3), ops.gelu(x), ops.elu(x), ops.sigmoid(x),
        ops.cumsum(x, 1), ops.norm(x, axis=-1), ops.repeat(x, 2, axis=1), ops.expand_dims(x, -1), ops.relu6(x),
        ops.reshape(x[:, 1:, ::2], (-1, 12)), ops.transpose(x, (0, 2, 1)), ops.clip(x, 0.0, 0.9), x[..., 0],
        ops.max(x, axis=1), ops.one_hot(ops.cast(x[:, 0, 0] > 0, "int32"), 3), x + ops.expand_dims(aux, 1), x + x,
    ]  # fmt: skip
    return keras.Model([x, aux], outputs, name="operators")


def sequences() -> Any:
    """Masks, first states, directions, wrappers, cells, and a mask that an operator loses."""
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    embedded = layers.Embedding(9, 4, mask_zero=True)(tokens)
    both = layers.Bidirectional(layers.LSTM(5, return_sequences=True), merge_mode="sum")(embedded)
    last, *state = layers.LSTM(3, return_state=True)(both)
    resumed = layers.LSTM(3, recurrent_activation="hard_sigmoid")(embedded, initial_state=state)
    attended = layers.LayerNormalization()(embedded + layers.MultiHeadAttention(2, 2)(embedded, embedded))
    cells = layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)])(embedded)
    backwards = layers.GRU(4, go_backwards=True, reset_after=False)(embedded)
    each = layers.TimeDistributed(layers.Dense(3, activation="tanh"))(embedded)
    pooled = [layers.GlobalAveragePooling1D()(item) for item in (both, attended, each)]
    return keras.Model(tokens, [last, resumed, cells, backwards, *pooled], name="sequences")


def structures() -> Any:
    """Dicts in and out, a model within TimeDistributed, a model used twice, an input that is an output, dtypes."""
    frames, vector = keras.Input((4, 8, 8, 3), name="frames"), keras.Input((6,), name="vector")
    per_frame = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.GlobalAveragePooling2D()],
        name="per_frame",
    )
    moving = layers.ConvLSTM2D(2, 3, name="moving")(frames)
    twice = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="inside")], name="twice")
    half = layers.Dense(4, dtype="mixed_float16", name="half")(twice(twice(vector)))
    outputs = {
        "frames": layers.TimeDistributed(per_frame)(frames),
        "moving": layers.Flatten()(moving),
        "half": layers.Dense(2, dtype="float32")(half),
        "same": vector,
    }
    return keras.Model({"frames": frames, "vector": vector}, outputs, name="structures")
