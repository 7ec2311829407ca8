"""Simulated int8 attention and time-distributed layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: keras tensors and layers, which have no types

import keras
from keras import ops


class QuantizedAttention(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """MultiHeadAttention with 8-bit projections and 8-bit matmuls (Vaswani et al. 2017; I-BERT's places of rounding).

    `projections` (query, key, value, attention_output and, with a gate, gate) are simulated layers; `observers` hold
    the ranges of what they give, of the scores, of the probabilities and of the heads' result. The query's projection
    is given divided by the root of its width, so that no integer operation is needed for that.
    """

    def __init__(self, layer: Any, projections: Mapping[str, Any], observers: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.projections = dict(projections)
        self.observers = dict(observers)

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """As MultiHeadAttention is called."""
        key = value if key is None else key
        mask = self.layer._compute_attention_mask(
            query, value, query_mask=query_mask, value_mask=value_mask, key_mask=key_mask,
            attention_mask=attention_mask, use_causal_mask=use_causal_mask,
        )  # fmt: skip
        heads, probabilities = self._attended(
            self._projected("query", query, training),
            self._projected("key", key, training),
            self._projected("value", value, training),
            mask,
            training,
        )
        if "gate" in self.projections:
            gated = ops.multiply(heads, self._projected("gate", query, training))
            heads = self.observers["gated"](gated, training=training)
        outputs = self.projections["attention_output"](heads)
        return (outputs, probabilities) if return_attention_scores else outputs

    def compute_mask(self, query: Any, value: Any, query_mask: Any = None, **_others: Any) -> Any:
        """The query's mask goes on."""
        del query, value
        return query_mask

    def _projected(self, name: str, tensor: Any, training: bool | None) -> Any:
        return self.observers[name](self.projections[name](tensor), training=training)

    def _attended(self, query: Any, key: Any, value: Any, mask: Any, training: bool | None) -> tuple[Any, Any]:
        """The two matmuls; heads before positions, so that they are batched matmuls."""
        layer, observers = self.layer, self.observers
        scores = ops.matmul(_heads_first(query), ops.swapaxes(_heads_first(key), -1, -2))
        scores = observers["scores"](scores, training=training)
        probabilities = observers["probabilities"](layer._masked_softmax(scores, mask), training=training)
        if layer._dropout > 0:
            probabilities = layer._dropout_layer(probabilities, training=training)
        heads = observers["heads"](ops.matmul(probabilities, _heads_first(value)), training=training)
        return _heads_first(heads), probabilities


def _heads_first(tensor: Any) -> Any:
    """(batch, positions, heads, width) -> (batch, heads, positions, width), and the way back."""
    return ops.transpose(tensor, (0, 2, 1, 3))


class QuantizedOverTime(keras.layers.Layer):  # type: ignore[misc]
    """TimeDistributed: a simulated layer over samples and steps at once."""

    def __init__(self, inner: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = inner
        self.supports_masking = True

    def call(self, tensor: Any) -> Any:
        """(batch, steps, ...) -> (batch, steps, ...)."""
        outputs = self.inner(ops.reshape(tensor, (-1, *tensor.shape[2:])))
        return ops.reshape(outputs, (-1, tensor.shape[1], *outputs.shape[1:]))
