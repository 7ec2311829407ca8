"""Ranges and means of activations, measured once for all variants of a build that take the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from edgekit.conversion import Source
from edgekit.errors import ConversionError
from edgekit.files import make_once
from edgekit.tensors import Array
from edgekit_tflite.calls import call
from edgekit_tflite.options import ACTIVATION_BITS, AUTO, METHODS, STATIC, TFLiteOptions

FEWEST = 8  # samples that a choice of the method is made with
_APART = 4  # every fourth sample is held apart for it

Measured = dict[str, object]  # what the quantizing worker is told: files, by what is in them


def measure_once(
    source: Source, float_model: Path, samples: Sequence[Array], options: TFLiteOptions, precision: str
) -> Measured:
    """The files with the samples, the ranges by method, and the means that biases are corrected by.

    With calibration "auto", some samples are held apart in a file of their own. Raises ConversionError.
    """
    if options.calibration != AUTO:
        learning = _Learning(source, float_model, samples, precision)
        return {**learning.files(options), "ranges": {options.calibration: str(learning.ranges(options))}}
    if len(samples[0]) < FEWEST:
        raise ConversionError(
            f'calibration = "{AUTO}" chooses by samples held apart: {len(samples[0])} are too few, give {FEWEST}'
        )
    apart = np.arange(len(samples[0])) % _APART == 0
    learning = _Learning(source, float_model, [array[~apart] for array in samples], precision)
    ranges = {method: str(learning.ranges(replace(options, calibration=method))) for method in METHODS}
    held = _store(source, [array[apart] for array in samples])
    return {**learning.files(options), "ranges": ranges, "held": str(held)}


@dataclass(frozen=True)
class _Learning:
    """Samples that are learned from."""

    source: Source
    float_model: Path
    samples: Sequence[Array]
    precision: str

    def files(self, options: TFLiteOptions) -> Measured:
        """The samples, and the means where biases are to be corrected."""
        found: Measured = {"calibration": str(_store(self.source, self.samples))}
        if options.bias_correction and self.precision in STATIC:
            found["means"] = str(self._measure(options, "means", means=True))
        return found

    def ranges(self, options: TFLiteOptions) -> Path:
        """By the method of `options`."""
        method = [options.calibration, options.percentile or ""]
        if options.calibration == "mse":  # the only one that looks at the width
            method.append(ACTIVATION_BITS.get(self.precision, 8))
        return self._measure(options, f"ranges-{'-'.join(map(str, method))}", means=False)

    def _measure(self, options: TFLiteOptions, what: str, *, means: bool) -> Path:
        stored = _store(self.source, self.samples)

        def measure(temporary: Path) -> None:
            request = {
                "model": str(self.float_model),
                "options": asdict(options),
                "bits": ACTIVATION_BITS.get(self.precision, 8),
                "inputs": self.source.signature_names(),
                "calibration": str(stored),
                "means": means,
                "output": str(temporary),
            }
            call("calibrate_worker", request, what=f"calibrating '{self.source.name}' for TFLite {self.precision}")

        return make_once(self.source.work / f"{what}-{stored.stem}.json", measure)


def _store(source: Source, samples: Sequence[Array]) -> Path:
    """The samples as an .npz in the work folder, named by their values and shapes."""
    digest = hashlib.sha256()
    for array in samples:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    path = source.work / f"calibration-{digest.hexdigest()}.npz"
    return make_once(path, lambda temporary: np.savez(temporary, *samples))
