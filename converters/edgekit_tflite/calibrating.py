"""Ranges and means of activations, measured once for all variants of a build that take the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekit.conversion import Source
from edgekit.errors import ConversionError
from edgekit.files import make_once
from edgekit.ranges import FEWEST, is_apart
from edgekit.tensors import Array
from edgekit_tflite.calls import call
from edgekit_tflite.options import ACTIVATION_BITS, AUTO, METHODS, TFLiteOptions


def measure_once(
    source: Source, float_model: Path, samples: Sequence[Array], options: TFLiteOptions, precision: str
) -> dict[str, str]:
    """What the quantizing worker is told: the files with the samples and with what was measured on them.

    With a setting "auto", some samples are held apart in a file of their own. Raises ConversionError.
    """
    if not options.chooses:
        return _measure(source, float_model, samples, options, precision)
    if len(samples[0]) < FEWEST:
        setting = "calibration" if options.calibration == AUTO else "equalization"
        raise ConversionError(
            f'{setting} = "{AUTO}" chooses by samples held apart: {len(samples[0])} are too few, give {FEWEST}'
        )
    apart = is_apart(len(samples[0]))
    measured = _measure(source, float_model, [array[~apart] for array in samples], options, precision)
    return {**measured, "held": str(_store(source, [array[apart] for array in samples]))}


def equalized(source: Source, float_model: Path, samples: Sequence[Array], options: TFLiteOptions) -> Path:
    """The float file with equalized channels, by the samples that are not held apart. Raises ConversionError."""
    if options.chooses:
        samples = [array[~is_apart(len(array))] for array in samples]
    stored = _store(source, samples)

    def make(temporary: Path) -> None:
        request = {
            "model": str(float_model),
            "inputs": source.signature_names(),
            "calibration": str(stored),
            "output": str(temporary),
        }
        call("equalize_worker", request, what=f"equalizing the channels of '{source.name}'")

    return make_once(source.work / f"equalized-{stored.stem}.tflite", make)


def _measure(
    source: Source, float_model: Path, samples: Sequence[Array], options: TFLiteOptions, precision: str
) -> dict[str, str]:
    stored = _store(source, samples)
    methods = METHODS if options.calibration == AUTO else (options.calibration,)
    bits = ACTIVATION_BITS.get(precision, 8)

    def measure(temporary: Path) -> None:
        request = {
            "model": str(float_model),
            "inputs": source.signature_names(),
            "calibration": str(stored),
            "methods": methods,
            "percentile": options.percentile,
            "bits": bits,
            "output": str(temporary),
        }
        call("calibrate_worker", request, what=f"calibrating '{source.name}' for TFLite {precision}")

    width = bits if "mse" in methods else ""  # the only one that looks at it
    name = f"measured-{options.calibration}{options.percentile or ''}{width}-{stored.stem}.json"
    return {"calibration": str(stored), "measured": str(make_once(source.work / name, measure))}


def _store(source: Source, samples: Sequence[Array]) -> Path:
    """The samples as an .npz in the work folder, named by their values and shapes."""
    digest = hashlib.sha256()
    for array in samples:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    path = source.work / f"calibration-{digest.hexdigest()}.npz"
    return make_once(path, lambda temporary: np.savez(temporary, *samples))
