"""Distillation of causal decoders: at every place, the teacher's distribution over the next token is learned.

What a teacher gives for a text is thousands of times the text, so that it is asked anew for each batch, and nothing is
kept (Hinton et al. 2015; of language models, Sanh et al. 2019, "DistilBERT").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any  # Any: keras models and tensors, which have no types

from edgekit.compression.steps import Distill
from edgekit.compression.task import Task
from edgekit.errors import DataError, ModelError
from edgekit.loading import LoadedModel, import_keras
from edgekit.tensors import Array, format_shape

PlaceLoss = Callable[[Any, Any], Any]  # (teacher's logits, student's logits) -> loss of each place


def foretells_tokens(loaded: LoadedModel) -> bool:
    """Whether this is a causal decoder: one that could keep its keys and values."""
    from edgekit.language.layers import RotaryAttention

    return any(isinstance(layer, RotaryAttention) for layer in loaded.model.layers)


def token_task(step: Distill, teacher: LoadedModel, soft: PlaceLoss, tokens: Array) -> Task:
    """The student's task on tokens (n, length), which are their own labels: each place is to foretell the next.

    The loss is `weight` times `soft`, and the rest the cross-entropy with the token that really follows; the mean is
    over all places whose next token is not `pad_token`. Raises ModelError for a step that matches layers, DataError for
    texts of one token.
    """
    if step.features or step.attention:
        raise ModelError("Distill.features and Distill.attention are not for causal decoders: leave them out")
    if tokens.shape[1] < 2:
        raise DataError(f"tokens have shape {format_shape(tokens.shape)}: in texts of one token nothing follows")
    ops = import_keras().ops

    def loss(given: Any, got: Any) -> Any:
        given = ops.cast(given, "int32")  # Keras makes floats of targets
        wanted = ops.stop_gradient(teacher.model(teacher.pack({teacher.inputs[0].name: given}), training=False))
        following, logits = given[:, 1:], ops.cast(got[:, :-1], "float32")
        hard = import_keras().losses.sparse_categorical_crossentropy(following, logits, from_logits=True)
        costs = step.weight * soft(wanted[:, :-1], logits) + (1 - step.weight) * hard
        real = ops.ones_like(costs) if step.pad_token is None else ops.cast(following != step.pad_token, costs.dtype)
        return ops.sum(costs * real) / ops.maximum(ops.sum(real), 1)

    return Task((loss,), (tokens,))
