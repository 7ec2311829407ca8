"""What the outputs of a converted file are held to, measured against the float model on the same data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgekit.comparison import compare_outputs
from edgekit.data import Data
from edgekit.errors import ConfigError
from edgekit.evaluation import checked_metric, top1
from edgekit.tensors import Array, TensorSpec

DEFAULT_MAX_DROP = 0.5  # points
_ROUNDING = 1e-9  # of differences between fractions

GoalName = Literal["top-1 accuracy", "top-1 agreement", "SNR"]


@dataclass(frozen=True)
class Goal:
    """A figure of a file's outputs, higher is better, and the least that will do."""

    name: GoalName
    least: float  # a fraction, or dB for SNR
    float_value: float | None  # the float model's own; None for SNR, which is the distance from it
    measure: Callable[[Mapping[str, Array]], float]  # of outputs on all rows; infinite for an SNR without error

    def met(self, value: float) -> bool:
        """Whether this figure will do."""
        return value >= self.least - _ROUNDING


@dataclass(frozen=True)
class Budget:
    """What the user allows: points of top-1, or an SNR."""

    max_drop: float | None = None  # points (hundredths); None: DEFAULT_MAX_DROP
    min_snr: float | None = None  # dB; None: top-1 is measured

    def __post_init__(self) -> None:
        if self.max_drop is not None and self.min_snr is not None:
            raise ConfigError("--max-drop is for top-1, --min-snr for the outputs' values: give one of them")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise ConfigError(f"--max-drop is {self.max_drop:g} points, expected 0 to 100")
        if self.min_snr is not None and not math.isfinite(self.min_snr):
            raise ConfigError(f"--min-snr is {self.min_snr:g}, expected a number of dB")


def class_count(outputs: Sequence[TensorSpec]) -> int | None:
    """The number of class scores of a model's only output; None when it has no such output."""
    shape = outputs[0].shape
    scores = len(outputs) == 1 and len(shape) == 2 and shape[1] is not None and shape[1] > 1
    return shape[1] if scores else None


def find_goal(budget: Budget, outputs: Sequence[TensorSpec], data: Data, reference: Mapping[str, Array]) -> Goal:
    """The goal that `budget` means for a model with these `outputs`.

    `reference` are the float model's outputs on `data`, by name. Top-1 accuracy where the data has labels, top-1
    agreement with the float model where it has none. Raises ConfigError when the model gives no class scores and the
    budget names no SNR.
    """
    if budget.min_snr is not None:
        return Goal("SNR", budget.min_snr, None, lambda found: _snr(reference, found))
    if class_count(outputs) is None:
        raise ConfigError(
            f"the outputs ({', '.join(map(str, outputs))}) are not one row of class scores, so there is no top-1: "
            "say how near they must stay with --min-snr DB"
        )
    labels = data.labels
    truth = labels if labels is not None else next(iter(reference.values())).argmax(axis=-1)
    name: GoalName = "top-1 agreement" if labels is None else "top-1 accuracy"
    drop = DEFAULT_MAX_DROP if budget.max_drop is None else budget.max_drop
    value = checked_metric(top1(reference, truth), data.where)
    return Goal(name, value - drop / 100, value, lambda found: top1(found, truth))


def _snr(reference: Mapping[str, Array], outputs: Mapping[str, Array]) -> float:
    parity = compare_outputs(reference, outputs)
    if parity.max_abs == 0:
        return math.inf
    return -math.inf if parity.snr_db is None else parity.snr_db
