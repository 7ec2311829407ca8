"""Quantizing with calibration samples: ranges by one method, or by the one that measures best on samples held apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any  # Any: litert-quantizer's Quantizer, which has no types

import numpy as np

from edgekit.errors import ConversionError
from edgekit.tensors import Array
from edgekit_tflite.bias_correction import channel_means, correct_biases
from edgekit_tflite.options import METHODS, TFLiteOptions
from edgekit_tflite.ranges import Feeds, find_ranges
from edgekit_tflite.running import Runner

FEWEST = 8  # samples that a choice is made with
_APART = 4  # every fourth sample is held apart


@dataclass(frozen=True)
class Calibration:
    """One float file, how its operators are to be quantized, and samples."""

    quantizer: Any
    model: Path
    options: TFLiteOptions
    bits: int  # of activations
    feeds: Feeds  # one sample each; [] where nothing is calibrated

    def write(self, output: Path) -> tuple[str, ...]:
        """Quantize into `output`; what a reader of the report must know. Raises ConversionError."""
        if self.options.calibration == "auto":
            return self._write_best(output)
        self._quantize(output, self.options, self.feeds)
        correct_biases(output, self.model, self._means(self.feeds))
        return ()

    def _write_best(self, output: Path) -> tuple[str, ...]:
        """Try every method, with and without bias correction, and keep the file of the best SNR."""
        if len(self.feeds) < FEWEST:
            raise ConversionError(
                f'calibration = "auto" chooses by samples held apart: {len(self.feeds)} are too few, give {FEWEST}'
            )
        held = self.feeds[::_APART]
        learned = [feed for index, feed in enumerate(self.feeds) if index % _APART]
        means = self._means(learned)
        wanted = _outputs(self.model, held)
        found: dict[str, float] = {}
        for method in METHODS:
            self._quantize(output, replace(self.options, calibration=method), learned)
            attempts = {method: output.read_bytes()}
            if correct_biases(output, self.model, means):
                attempts[f"{method} with bias correction"] = output.read_bytes()
            for name, content in attempts.items():
                output.write_bytes(content)
                found[name] = _snr_db(wanted, _outputs(output, held))
                if found[name] == max(found.values()):
                    best = content
        output.write_bytes(best)
        ranked = sorted(found.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{name} {decibels:.1f} dB" for name, decibels in ranked)
        return (f"calibration by SNR on {len(held)} samples held apart: {shown}",)

    def _means(self, feeds: Feeds) -> dict[str, Array]:
        return channel_means(self.model, feeds) if self.options.bias_correction and feeds else {}

    def _quantize(self, output: Path, options: TFLiteOptions, feeds: Feeds) -> None:
        recipe = self.quantizer.get_quantization_recipe()
        ranges = find_ranges(str(self.model), recipe, feeds, options, self.bits) if feeds else None
        result = self.quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        if result.quantized_model is None:
            raise ConversionError("litert-quantizer gave no model")
        output.write_bytes(bytes(result.quantized_model))


def _outputs(path: Path, feeds: Sequence[Mapping[str, Array]]) -> list[Array]:
    run = Runner(path)
    return [array for feed in feeds for array in run(feed)]


def _snr_db(expected: Sequence[Array], actual: Sequence[Array]) -> float:
    """10 log10 of the power of all outputs over that of their error."""
    noise = sum(float(np.sum(np.square(a - b))) for a, b in zip(expected, actual, strict=True))
    power = sum(float(np.sum(np.square(a))) for a in expected)
    return float(10 * np.log10(max(power, 1e-30) / max(noise, 1e-30)))
