"""One quantized file, or the best of several on samples held apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: the request, which is JSON

import numpy as np

from edgekit.ranges import Ranges, read_feeds, snr_db
from edgekit.tensors import Array
from edgekit_tflite.bias_correction import correct_biases
from edgekit_tflite.running import Runner

Write = Callable[[Ranges, Path], None]  # (ranges by tensor name, output)


@dataclass(frozen=True)
class Best:
    """What was written."""

    notes: tuple[str, ...] = ()  # what a reader of the report must know
    snr_db: float | None = None  # on samples held apart; None without any


def write_best(write: Write, request: Mapping[str, Any], *, correct: bool) -> Best:
    """Quantize into the output that `request` names.

    `correct` says whether biases are corrected. With samples held apart, every range and both ways of setting biases
    are tried, and the best SNR counts, against the float file that the request calls `reference`.
    """
    model, output = Path(request["model"]), Path(request["output"])
    ranges, means = _measured(request.get("measured"))
    if "held" not in request:
        (ends,) = ranges.values()
        write(ends, output)
        if correct:
            corrected = output.with_name(f"{output.name}.corrected")
            correct_biases(output, model, means, corrected)
            corrected.replace(output)
        return Best()
    held = read_feeds(Path(request["held"]), request["inputs"])
    wanted, found = _outputs(Path(request["reference"]), held), dict[str, float]()
    for method, ends in ranges.items():
        made = {method: output.with_name(f"{output.name}.{method}")}
        write(ends, made[method])
        corrected = output.with_name(f"{output.name}.{method}.corrected")
        if correct and correct_biases(made[method], model, means, corrected):
            made[f"{method} with bias correction"] = corrected
        for name, path in made.items():
            found[name] = snr_db(wanted, _outputs(path, held))
            if found[name] == max(found.values()):
                path.replace(output)
            else:
                path.unlink()
    ranked = sorted(found.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {decibels:.1f} dB" for name, decibels in ranked)
    return Best((f"calibration by SNR on {len(held)} samples held apart: {shown}",), ranked[0][1])


def _measured(path: str | None) -> tuple[dict[str, Ranges], dict[str, Array]]:
    """(ranges by method, means by tensor name)."""
    if path is None:
        return {"": {}}, {}
    found = json.loads(Path(path).read_text())
    return found["ranges"], {name: np.array(values) for name, values in found["means"].items()}


def _outputs(path: Path, feeds: Sequence[Mapping[str, Array]]) -> list[Array]:
    run = Runner(path)
    return [array for feed in feeds for array in run(feed)]
