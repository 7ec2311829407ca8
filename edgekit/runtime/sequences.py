"""Whole sequences through a model with state, each from the beginning."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.errors import DataError
from edgekit.runtime.session import Session
from edgekit.tensors import Array


def run_samples(session: Session, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """`Session.run`; of a model with state, arrays may be whole sequences of shape (n, steps, ...).

    Then its state is reset before each of them, and so are results of shape (n, steps, ...). Raises what `run` does.
    """
    if not (session.stateful and all(_in_steps(session, inputs))):
        return session.run(inputs)
    for spec in session.inputs:
        spec.in_steps.check(inputs[spec.name], where="sequences")
    sizes = {array.shape[:2] for array in inputs.values()}
    if len(sizes) > 1:
        raise DataError(f"sequences: inputs have different numbers of samples or steps ({sorted(sizes)})")
    ((count, _),) = sizes
    if not count:
        raise DataError("sequences: there are none, expected at least 1")
    results = [_run_one(session, {name: array[index] for name, array in inputs.items()}) for index in range(count)]
    return {name: np.stack([result[name] for result in results]) for name in results[0]}


def _run_one(session: Session, steps: Mapping[str, Array]) -> dict[str, Array]:
    session.reset_state()
    return session.run(steps)


def _in_steps(session: Session, inputs: Mapping[str, Array]) -> list[bool]:
    """Of each input, whether it has an axis more than one call takes."""
    return [spec.name in inputs and np.ndim(inputs[spec.name]) == len(spec.shape) + 1 for spec in session.inputs]
