"""A model with state over whole sequences: many of them side by side, each from zero, one step after the other.

Arrays of whole sequences have shape (n, steps, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any  # Any: Keras models and what they are called with, which have no types

import numpy as np

from edgekit.kerases import import_keras
from edgekit.states import State, stateful_layers, states_of
from edgekit.tensors import Array

SIDE_BY_SIDE = 256  # sequences

Columns = Mapping[str, Array]
Pack = Callable[[Mapping[str, Any]], Any]  # tensors by name -> what the model is called with


@dataclass(frozen=True)
class Step:
    """One step of some sequences; arrays have shape (sequences, ...)."""

    states: Sequence[Array]  # as they were before it
    outputs: Sequence[Array]


def outputs_of(model: Any, pack: Pack, columns: Columns) -> list[Array]:
    """Every output of whole sequences."""
    return _joined([[step.outputs for step in steps] for steps in _parts(model, pack, columns)])


def states_before(model: Any, pack: Pack, columns: Columns) -> dict[str, Array]:
    """What each state is before every step of whole sequences, by its name as an input."""
    found = _joined([[step.states for step in steps] for steps in _parts(model, pack, columns)])
    return dict(zip((state.taken.name for state in states_of(model)), found, strict=True))


def in_rows(columns: Columns) -> dict[str, Array]:
    """Whole sequences as (n * steps, ...)."""
    return {name: array.reshape(-1, *array.shape[2:]) for name, array in columns.items()}


def at_the_end(columns: Columns) -> dict[str, Array]:
    """The last step of whole sequences, (n, ...)."""
    return {name: array[:, -1] for name, array in columns.items()}


def _joined(parts: Sequence[Sequence[Sequence[Array]]]) -> list[Array]:
    """Arrays by part, step and tensor, as one of whole sequences for each tensor."""
    by_tensor = [[np.stack(tensor, axis=1) for tensor in zip(*steps, strict=True)] for steps in parts]
    return [np.concatenate(tensor) for tensor in zip(*by_tensor, strict=True)]


def _parts(model: Any, pack: Pack, columns: Columns) -> Iterator[list[Step]]:
    """The steps of every SIDE_BY_SIDE sequences."""
    for start in range(0, len(next(iter(columns.values()))), SIDE_BY_SIDE):
        part = {name: array[start : start + SIDE_BY_SIDE] for name, array in columns.items()}
        with _side_by_side(model, len(next(iter(part.values())))) as states:
            yield list(_steps(model, pack, part, states))


def _steps(model: Any, pack: Pack, columns: Columns, states: Sequence[State]) -> Iterator[Step]:
    import tensorflow as tf

    # `call` does not compare the batch with that of the model's inputs, which is 1.
    run = tf.function(lambda tensors: model.call(pack(tensors), training=False))
    for step in range(next(iter(columns.values())).shape[1]):
        before = [state.variable.numpy() for state in states]
        outputs = run({name: tf.constant(array[:, step]) for name, array in columns.items()})
        yield Step(before, [output.numpy() for output in import_keras().tree.flatten(outputs)])


@contextmanager
def _side_by_side(model: Any, count: int) -> Iterator[tuple[State, ...]]:
    """States of so many sequences, at zero; afterwards they are what they were."""
    before = [state.variable.numpy() for state in states_of(model)]
    _make_states(model, count)
    try:
        yield states_of(model)
    finally:
        _make_states(model, 1)
        for state, value in zip(states_of(model), before, strict=True):
            state.variable.assign(value)


def _make_states(model: Any, batch: int) -> None:
    """Variables of that batch, which a recurrent layer makes itself when it is built."""
    for layer in stateful_layers(model):
        layer._create_state_variables(batch)
        layer._expected_batch_size = batch
