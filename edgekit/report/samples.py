"""The evaluation samples that a report shows: the golden inputs, and those whose class changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.data import Data
from edgekit.measuring import GOLDEN_SAMPLES, MeasuredVariant, Top1
from edgekit.report.facts import SampleFacts
from edgekit.report.images import pictures
from edgekit.tensors import Array

CHANGED = 8  # at most


def sample_facts(
    evaluation: Data, variants: Sequence[MeasuredVariant], labels: Sequence[str] | None
) -> tuple[SampleFacts, ...]:
    """Golden samples first, then up to `CHANGED` others, those that most variants changed first.

    None where the model gives no scores of classes.
    """
    found = {item.variant.id: item.top1 for item in variants if item.top1 is not None}
    if not found:
        return ()
    golden = [int(row) for row in evaluation.spread_rows(GOLDEN_SAMPLES)]
    rows = [*golden, *(row for row in _changed(list(found.values())) if row not in golden)][: len(golden) + CHANGED]
    shown = evaluation.take(np.array(rows))
    images = pictures(shown.inputs) if shown.steps is None else [None] * len(rows)
    return tuple(
        SampleFacts(
            row=row,
            golden=row in golden,
            expected=_expected(shown.labels, place, labels),
            reference=_name(_first(found).reference[row], labels),
            predictions={variant: _name(top1.found[row], labels) for variant, top1 in found.items()},
            picture=picture,
        )
        for place, (row, picture) in enumerate(zip(rows, images, strict=True))
    )


def _first(found: dict[str, Top1]) -> Top1:
    return next(iter(found.values()))


def _changed(found: Sequence[Top1]) -> list[int]:
    """Rows by how many variants give them another class than the float model, the most first; none that all keep."""
    counts = np.sum([top1.found != top1.reference for top1 in found], axis=0)
    order = np.argsort(-counts, kind="stable")
    return [int(row) for row in order[: int(np.count_nonzero(counts))]]


def _expected(values: Array | None, place: int, labels: Sequence[str] | None) -> str | None:
    if values is None or values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        return None
    return _name(values[place], labels)


def _name(number: int, labels: Sequence[str] | None) -> str:
    return str(int(number)) if labels is None else labels[int(number)]
