"""In TFMOT's process: layers are wrapped one by one, so that one that TFMOT refuses stays as it is.

Whether TFMOT takes a layer is found by trying: a twin of the layer, alone in a small model, is wrapped and trained for
one step. Registries alone do not tell: some layers that are in them fail when they are called or trained.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any  # Any: tf_keras layers and models, which have no types

import numpy as np

from edgekit.errors import ModelError

_CAUSE_LAST = ("in user code:", "Exception encountered")
_MEMORY_ADDRESS = re.compile(r"<function (\w+) at 0x[0-9a-f]+>")

Settings = Mapping[str, Any]
Wrap = Callable[[Any, Settings], Any]  # (built layer, its settings) -> wrapped layer
Check = Callable[[Any, Settings], None]  # (built layer, its settings); raises Refused


class Refused(Exception):  # noqa: N818  # an answer, not an error
    """TFMOT does not take the layer; the text says why."""


def wrap_where_possible(
    model: Any,
    settings: Mapping[str, Settings],
    check: Check,
    wrap: Wrap,
    callbacks: Callable[[], Sequence[Any]] = tuple,
) -> tuple[Any, dict[str, str]]:
    """(model with the layers that `settings` names wrapped, layer -> why TFMOT refused it).

    The layers are those of `model`, not copies: wrapping reads their weights, training changes them. `check` says
    what TFMOT's registries and the layer's own weights tell before a trial, whose twin has other weights.
    """
    import tf_keras

    checked = {name: _answer(model.get_layer(name), own, check) for name, own in settings.items()}
    unfit = {name: answer for name, answer in checked.items() if answer is not None}
    tried = {name: own for name, own in settings.items() if name not in unfit}
    refusals = {**unfit, **try_layers(model, tried, lambda layer, own: _try(layer, own, wrap, callbacks))}
    if len(refusals) == len(settings):
        name, why = next(iter(refusals.items()))
        raise ModelError(f'TFMOT takes no layer of this model ({name}: {why}); use engine = "keras"')

    def wrapped(layer: Any) -> Any:
        taken = layer.name in settings and layer.name not in refusals
        return wrap(layer, settings[layer.name]) if taken else layer

    return tf_keras.models.clone_model(model, clone_function=wrapped), refusals


def try_layers(model: Any, settings: Mapping[str, Settings], attempt: Check) -> dict[str, str]:
    """Layer -> why it is refused; layers that look alike to TFMOT are tried once."""
    answers: dict[str, str | None] = {}
    for name, own in settings.items():
        layer = model.get_layer(name)
        key = _likeness(layer, own)
        if key not in answers:
            answers[key] = _answer(layer, own, attempt)
    found = {name: answers[_likeness(model.get_layer(name), own)] for name, own in settings.items()}
    return {name: answer for name, answer in found.items() if answer is not None}


def alone(layer: Any) -> tuple[Any, Any]:
    """(a small model that calls a twin of `layer` as its model does, the twin)."""
    import tf_keras

    twin = type(layer).from_config(layer.get_config())
    inputs = {
        str(id(tensor)): tf_keras.Input(tensor.shape[1:], dtype=tensor.dtype)
        for node in layer._inbound_nodes
        for tensor in node.keras_inputs
    }
    outputs = []
    for node in layer._inbound_nodes:
        args, kwargs = node.map_arguments({key: [tensor] * len(node.keras_inputs) for key, tensor in inputs.items()})
        outputs.append(twin(*args, **kwargs))
    return tf_keras.Model(list(inputs.values()), outputs), twin


def one_step(model: Any, callbacks: Sequence[Any] = ()) -> None:
    """Train a small model for one step on two samples of noise."""
    import tensorflow as tf

    generator = np.random.default_rng(0)
    columns = [generator.normal(0, 1, (2, *tensor.shape[1:])).astype(tensor.dtype.name) for tensor in model.inputs]
    columns = [np.abs(column).clip(0, 1) if column.dtype.kind in "iu" else column for column in columns]
    if not model.trainable_weights:
        tf.function(model)(columns, training=True)
        return
    targets = [np.zeros((2, *tensor.shape[1:]), np.float32) for tensor in model.outputs]
    model.compile("sgd", "mse")
    model.fit(columns, targets, verbose=0, callbacks=list(callbacks))


def _try(layer: Any, own: Settings, wrap: Wrap, callbacks: Callable[[], Sequence[Any]]) -> None:
    import tf_keras

    small, twin = alone(layer)
    wrapped = tf_keras.models.clone_model(small, clone_function=lambda each: wrap(each, own) if each is twin else each)
    one_step(wrapped, callbacks())


def _answer(layer: Any, own: Settings, attempt: Check) -> str | None:
    try:
        attempt(layer, own)
    except Refused as answer:
        return str(answer)
    except Exception as problem:  # TFMOT and tf_keras raise whatever they raise
        return f"TFMOT fails on {type(layer).__name__}: {one_line(problem)}"
    return None


def one_line(problem: Exception) -> str:
    """What an exception says in one line, cut to what a report holds; TensorFlow puts the cause last."""
    told = str(problem).partition("Call arguments received")[0]
    lines = [line.strip() for line in told.splitlines() if line.strip()] or [type(problem).__name__]
    text = _MEMORY_ADDRESS.sub(r"\1", lines[-1] if lines[0].startswith(_CAUSE_LAST) else lines[0]).rstrip(".")
    return text if len(text) <= 160 else f"{text[:157]}..."


def _likeness(layer: Any, own: Settings) -> str:
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    ranks = [len(weight.shape) for weight in layer.weights]
    shapes = [len(tensor.shape) for node in layer._inbound_nodes for tensor in node.keras_inputs]
    facts = [type(layer).__name__, activation, ranks, shapes, len(layer._inbound_nodes), dict(own)]
    return json.dumps(facts, sort_keys=True)
