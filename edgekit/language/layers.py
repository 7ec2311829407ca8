"""The layer of a causal decoder that Keras lacks; importing this module registers it with Keras as "edgekit"."""

from __future__ import annotations

from typing import Any  # Any: Keras tensors, which have no types

import keras
from keras import ops

PACKAGE = "edgekit"


@keras.saving.register_keras_serializable(package=PACKAGE)
class RotaryAttention(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Causal attention with rotary positions (Su et al. 2021) and grouped heads (Ainslie et al. 2023).

    `heads` queries share `groups` keys and values, heads // groups queries to each. Positions rotate the first half of
    a head against its second half, the convention of Llama's weights on the Hugging Face hub. Takes and gives
    (batch, length, width).
    """

    def __init__(
        self, heads: int, groups: int, size: int, *, theta: float = 10_000.0, use_bias: bool = False, **kwargs: Any
    ) -> None:
        """`size` is that of a head, an even number; `theta` is the base of the wavelengths."""
        super().__init__(**kwargs)
        self.heads, self.groups, self.size, self.theta, self.use_bias = heads, groups, size, theta, use_bias

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the four kernels."""
        widths = {"query": self.heads * self.size, "key": self.groups * self.size, "value": self.groups * self.size}
        for name, width in widths.items():
            setattr(self, f"{name}_dense", self._dense(name, width, shape))
        self.output_dense = self._dense("output", shape[-1], (*shape[:-1], self.heads * self.size))

    def call(self, x: Any) -> Any:
        """Each token attends to itself and to what came before it."""
        positions = ops.arange(ops.shape(x)[1])
        keys, values = self._keys(x, positions), self._heads(self.value_dense(x), self.groups)
        return self._attend(x, positions, keys, values, positions)

    def step(self, x: Any, position: Any, keys: Any, values: Any) -> tuple[Any, Any, Any]:
        """(outputs, keys, values) of tokens that follow on `position` others, an int32 scalar.

        `keys` and `values` (batch, groups, capacity, size) hold those of the tokens before, and get those of `x`.
        """
        positions = position + ops.arange(ops.shape(x)[1])
        place = (0, 0, position, 0)
        keys = ops.slice_update(keys, place, self._keys(x, positions))
        values = ops.slice_update(values, place, self._heads(self.value_dense(x), self.groups))
        return self._attend(x, positions, keys, values, ops.arange(keys.shape[2])), keys, values

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """As it was."""
        return shape

    def get_config(self) -> dict[str, Any]:
        """Every argument of __init__."""
        own = {name: getattr(self, name) for name in ("heads", "groups", "size", "theta", "use_bias")}
        return {**super().get_config(), **own}

    def _dense(self, name: str, width: int | None, shape: tuple[int | None, ...]) -> Any:
        dense = keras.layers.Dense(width, use_bias=self.use_bias, dtype=self.dtype_policy, name=name)
        dense.build(shape)
        return dense

    def _keys(self, x: Any, positions: Any) -> Any:
        return self._rotated(self._heads(self.key_dense(x), self.groups), positions)

    def _heads(self, x: Any, count: int) -> Any:
        """(batch, length, count × size) as (batch, count, length, size)."""
        length = ops.shape(x)[1]
        return ops.transpose(ops.reshape(x, (-1, length, count, self.size)), (0, 2, 1, 3))

    def _rotated(self, x: Any, positions: Any) -> Any:
        half = self.size // 2
        rates = ops.power(self.theta, -ops.arange(half, dtype="float32") / half)
        angles = ops.expand_dims(ops.cast(positions, "float32"), 1) * rates
        cosines, sines = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
        first, second = x[..., :half], x[..., half:]
        return ops.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)

    def _attend(self, x: Any, positions: Any, keys: Any, values: Any, places: Any) -> Any:
        """The queries of a group stand below each other, so that keys and values are not copied for them."""
        length, each = ops.shape(x)[1], self.heads // self.groups
        queries = self._rotated(self._heads(self.query_dense(x), self.heads), positions)
        queries = ops.reshape(queries * self.size**-0.5, (-1, self.groups, each * length, self.size))
        scores = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2)))
        seen = ops.expand_dims(positions, 1) >= ops.expand_dims(places, 0)
        hidden = ops.cast(ops.logical_not(ops.tile(seen, (each, 1))), scores.dtype)
        mixed = ops.matmul(ops.softmax(scores + hidden * _LEAST, axis=-1), values)
        mixed = ops.reshape(mixed, (-1, self.heads, length, self.size))
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, length, self.heads * self.size))
        return self.output_dense(mixed)


_LEAST = -3e4  # of a score that does not count; float16 holds it
