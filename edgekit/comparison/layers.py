"""What a comparison layer by layer says: where error comes in, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cause = Literal[
    "range-outliers",  # few values stretch the range, so that one step is too long for the others
    "dead-channels",  # channels that vary in float and are constant when quantized
    "saturating-activation",  # a bounded activation whose values sit at its bounds
    "range-too-small",  # values lie outside of the range and are cut off
    "rounding",  # nothing unusual: the steps are simply this long
]
"""Why a layer loses accuracy."""


@dataclass(frozen=True)
class Reason:
    """One cause with the figures that show it."""

    cause: Cause
    text: str


@dataclass(frozen=True)
class LayerParity:
    """One activation in two runs of a model, float and quantized.

    The total error of an activation has two parts. What the layer *introduces* is the difference between the quantized
    and the float layer when both are given the same inputs: the float run's, rounded to the quantized file's grid
    where that holds integers. What it *inherits* is the rest: the error of its inputs. What the introduced error costs
    is measured: the float model goes on from this layer's quantized output, and its own outputs are compared.
    """

    name: str  # of the Keras layer that makes it, the first with weights, where the layers are known; else the file's
    keras_layers: tuple[str, ...]  # all that the operator computes, in the model's order
    tensor: str  # in the quantized file
    operator: str  # "CONV_2D", "Conv+Relu"; "input"
    snr_db: float | None  # of the whole error; None without error
    introduced_db: float | None  # SNR of what this layer introduces; None when it introduces none
    output_db: float | None  # SNR of the model's outputs when this layer alone introduces its error; None without
    cosine: float | None  # None when a side is all zero
    saturation: float | None  # fraction of values that lie outside of the range; None where the output stays float
    rounding_share: float | None  # fraction of the introduced error that rounding the output makes; the rest: weights
    setting: str | None  # what `keep_float` calls it in a file without Keras names; None where that has no say
    readers: tuple[str, ...]  # the tensors computed from it, past what hands its values on
    reasons: tuple[Reason, ...]  # the likeliest first; () when the layer introduces no error

    @property
    def reason(self) -> str | None:
        """All reasons in words."""
        return "; ".join(reason.text for reason in self.reasons) or None


@dataclass(frozen=True)
class LayerComparison:
    """All activations that the two files share, in execution order."""

    samples: int
    output_samples: int  # of these, how many `output_db` was measured on
    layers: tuple[LayerParity, ...]
    unmatched: tuple[str, ...]  # tensors of the quantized file that have no counterpart of that name alone

    def culprits(self, count: int) -> tuple[LayerParity, ...]:
        """The layers whose own error costs most at the model's outputs, the worst first."""
        costly = [(layer.output_db, layer) for layer in self.layers if layer.output_db is not None]
        return tuple(layer for _, layer in sorted(costly, key=lambda pair: pair[0])[:count])
