"""The classes with the highest scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.cli.table import table
from edgekit.errors import ConfigError
from edgekit.tensors import Array, TensorSpec, class_count


@dataclass(frozen=True)
class Ranked:
    """One class of one sample."""

    index: int
    label: str | None  # where the bundle has labels
    score: float  # as the model gives it


def check_classes(outputs: Sequence[TensorSpec]) -> None:
    """Raise ConfigError when a model's outputs are no class scores."""
    if class_count(outputs) is None or len(outputs[0].shape) != 2:
        given = ", ".join(map(str, outputs))
        raise ConfigError(f"the outputs are no class scores ({given}): write them with -o Y.npz, without --top")


def top_classes(
    outputs: Mapping[str, Array], labels: Sequence[str] | None, count: int
) -> tuple[tuple[Ranked, ...], ...]:
    """The best `count` classes of each sample, best first, from the only output, (n, classes).

    Those of a sequence, (n, steps, classes), are what it has after the last step.
    """
    (scores,) = outputs.values()
    if scores.ndim > 2:
        scores = scores[:, -1]
    return tuple(tuple(_rank(row, labels, count)) for row in scores)


def top_text(samples: Sequence[Sequence[Ranked]]) -> str:
    """One table for each sample."""
    return "\n\n".join(map(_table, samples))


def _table(sample: Sequence[Ranked]) -> str:
    named = any(ranked.label is not None for ranked in sample)
    rows = [(str(ranked.index), *([ranked.label or ""] if named else []), f"{ranked.score:.4f}") for ranked in sample]
    return table([("class", "label", "score") if named else ("class", "score"), *rows])


def _rank(row: Array, labels: Sequence[str] | None, count: int) -> list[Ranked]:
    best: list[int] = np.argsort(-row, kind="stable")[:count].tolist()
    names: Sequence[str | None] = labels if labels is not None and len(labels) == len(row) else [None] * len(row)
    return [Ranked(index, names[index], float(row[index])) for index in best]
