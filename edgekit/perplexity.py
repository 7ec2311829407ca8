"""How well a decoder foretells real text: perplexity, exp of the mean negative log-likelihood of each next token.

One measure for the Keras model and for what was made of it: the files are asked token by token, as on a device, so that
their caches are measured with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.decoding import DECODE, LOGITS, POSITION
from edgekit.errors import DataError, ModelError
from edgekit.loading import LoadedModel
from edgekit.runtime.golden_texts import token_costs
from edgekit.tensors import Array, format_shape

LogitsOf = Callable[[Array], Array]  # tokens (length,) int32 -> logits (length, vocabulary), each of the token after


@dataclass(frozen=True)
class Perplexity:
    """What came out."""

    value: float  # 1: every token was certain; the size of the vocabulary: pure guessing
    tokens: int  # how many were foretold


def perplexity(logits_of: LogitsOf, rows: Array, *, pad: int | None = None) -> Perplexity:
    """Of token numbers (rows, length), each row a text of its own; places whose next token is `pad` do not count.

    Raises DataError where nothing is left to foretell, ModelError for logits that are not finite.
    """
    if rows.ndim != 2 or rows.dtype.kind not in "iu":
        raise DataError(
            f"tokens have shape {format_shape(rows.shape)} {rows.dtype}, expected (rows, length) of integers"
        )
    total, count = 0.0, 0
    for number, row in enumerate(rows):
        following = row[1:]
        real = np.ones(following.shape, bool) if pad is None else following != pad
        last = int(np.flatnonzero(real)[-1]) + 1 if real.any() else 0  # what is padded behind need not be computed
        if last:
            costs = _costs(logits_of(row[:last].astype(np.int32)), following[:last], number)
            total, count = total + float(costs[real[:last]].sum()), count + int(real.sum())
    if not count:
        raise DataError(f"tokens {format_shape(rows.shape)} have no token that follows on another: give longer texts")
    return Perplexity(float(np.exp(total / count)), count)


def mean_probability(outputs: Mapping[str, Array], labels: Array) -> float:
    """1 / perplexity, a metric for project files (`metric = "edgekit.perplexity:mean_probability"`).

    `logits` (rows, length, vocabulary); labels (rows, length) are the next tokens, below 0 where nothing follows.
    """
    logits = outputs[LOGITS]
    if logits.shape[:2] != labels.shape:
        raise DataError(f"labels have shape {format_shape(labels.shape)}, expected {format_shape(logits.shape[:2])}")
    real = labels >= 0
    if not real.any():
        raise DataError("labels are below 0 throughout, so that there is no token to foretell")
    return float(np.exp(-_costs(logits[real], labels[real], 0).mean()))


def logits_of_model(loaded: LoadedModel) -> LogitsOf:
    """The Keras model's own, a whole row at once."""
    import tensorflow as tf

    name = loaded.inputs[0].name
    spec = tf.TensorSpec((1, None), "int32")  # `call` does not hold the length to that of the model's input
    call = tf.function(lambda tokens: loaded.model.call(loaded.pack({name: tokens}), training=False), [spec])

    def logits_of(tokens: Array) -> Array:
        logits: Array = np.asarray(call(tf.constant(tokens[None])))[0]
        return logits

    return logits_of


def logits_of_tflite(path: Path, *, threads: int = 1) -> LogitsOf:
    """Those of a `.tflite` that keeps its keys and values (`edgekit convert --context`), one token at a time.

    Raises ModelError for another kind of file.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    if DECODE not in interpreter.get_signature_list():
        raise ModelError(f"{path}: no signature '{DECODE}': make it with edgekit convert --context N --to tflite")
    decode = interpreter.get_signature_runner(DECODE)
    (name,) = set(decode.get_input_details()) - {POSITION}

    def logits_of(tokens: Array) -> Array:
        steps = (
            decode(**{name: tokens[None, place : place + 1], POSITION: np.array([place], np.int32)})
            for place in range(len(tokens))
        )
        return np.concatenate([step[LOGITS] for step in steps])

    return logits_of


def logits_of_onnx(path: Path, *, threads: int = 1) -> LogitsOf:
    """Those of an `.onnx` that is handed its keys and values (`edgekit convert --context`), one token at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    tokens_name, position_name, *kept = session.get_inputs()
    if position_name.name != POSITION or not kept:
        raise ModelError(f"{path}: takes no past: make it with edgekit convert --context N --to onnx")

    def logits_of(tokens: Array) -> Array:
        past = {port.name: np.zeros(port.shape, np.float32) for port in kept}
        found = []
        for place in range(len(tokens)):
            given = {tokens_name.name: tokens[None, place : place + 1], POSITION: np.array([place], np.int32)}
            logits, *present = session.run(None, {**given, **past})
            past = dict(zip(past, present, strict=True))
            found.append(logits[0])
        return np.concatenate(found)

    return logits_of


def _costs(logits: Array, following: Array, row: int) -> Array:
    """-log p of each token (places,), in float64."""
    if not np.isfinite(logits).all():
        raise ModelError(f"row {row}: the logits are not finite")
    if following.min() < 0 or following.max() >= logits.shape[-1]:
        raise DataError(
            f"row {row}: token numbers from {following.min()} to {following.max()}, and the model has "
            f"{logits.shape[-1]}: the text is of another tokenizer"
        )
    return token_costs(logits, following)
