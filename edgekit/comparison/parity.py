"""Parity of the outputs of two runs on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.errors import DataError
from edgekit.tensors import Array


@dataclass(frozen=True)
class Parity:
    """How near outputs are to a reference, over all outputs and samples."""

    max_abs: float  # largest |difference|
    cosine: float | None  # None when one side is all zero
    snr_db: float | None  # 10 log10(reference power / difference power); None when they are equal
    top1_agreement: float | None  # fraction of samples; None unless there is one output of class scores


def compare_outputs(reference: Mapping[str, Array], outputs: Mapping[str, Array]) -> Parity:
    """Compare outputs by name. Raises DataError when names or shapes differ."""
    if set(reference) != set(outputs):
        raise DataError(f"outputs {sorted(outputs)} do not match {sorted(reference)}")
    for name, array in reference.items():
        if outputs[name].shape != array.shape:
            raise DataError(f"output '{name}' has shape {outputs[name].shape}, expected {array.shape}")
    wanted = np.concatenate([reference[name].astype(np.float64).ravel() for name in reference])
    got = np.concatenate([outputs[name].astype(np.float64).ravel() for name in reference])
    difference = got - wanted
    return Parity(
        max_abs=float(np.abs(difference).max(initial=0.0)),
        cosine=cosine_of(float(wanted @ got), float(wanted @ wanted), float(got @ got)),
        snr_db=decibels(float(np.sum(wanted**2)), float(np.sum(difference**2))),
        top1_agreement=_top1_agreement(reference, outputs),
    )


def cosine_of(dot: float, power: float, other_power: float) -> float | None:
    """The cosine of two vectors from their products with each other and themselves; None when one is zero."""
    norm = float(np.sqrt(power * other_power))
    return dot / norm if norm else None


def decibels(signal: float, noise: float) -> float | None:
    """The ratio of two powers in dB; None when either is zero."""
    return 10 * float(np.log10(signal / noise)) if noise and signal else None


def top1_classes(outputs: Mapping[str, Array]) -> Array | None:
    """The class of each sample, int64 (n,); None unless there is one output of class scores."""
    (scores, *others) = outputs.values()
    return None if others or scores.ndim != 2 or scores.shape[1] < 2 else scores.argmax(axis=1)


def _top1_agreement(reference: Mapping[str, Array], outputs: Mapping[str, Array]) -> float | None:
    wanted, found = top1_classes(reference), top1_classes(outputs)
    return None if wanted is None or found is None else float(np.mean(wanted == found))
