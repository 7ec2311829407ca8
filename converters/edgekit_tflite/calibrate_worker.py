"""Run by `edgekit.workers`: ranges and means of a float file's activations, once for all variants that take them.

A process of its own: what LiteRT makes of the weights is gone before they are quantized.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit.ranges import Feed, Ranges, read_feeds
from edgekit_tflite.activations import activations
from edgekit_tflite.bias_correction import ChannelMeans
from edgekit_tflite.ranges import Extremes, clipped_ranges


def calibrate(request: dict[str, Any]) -> dict[str, object]:
    """Write JSON: `ranges` by method, {tensor name: [least, largest]}, and `means`, {tensor name: of each channel}."""
    model, feeds = Path(request["model"]), read_feeds(Path(request["calibration"]), request["inputs"])
    try:
        ranges, means = _measure(model, feeds)
        if not set(request["methods"]) <= set(ranges):
            clip = {"percentile": request["percentile"], "bits": request["bits"]}
            ranges |= clipped_ranges(model, feeds, ranges["min-max"], **clip)
    except (ValueError, RuntimeError) as problem:  # an operator that LiteRT lacks
        reason = " ".join(str(problem).split())
        raise ConversionError(
            f"LiteRT cannot run the float file on calibration samples ({reason}): choose a precision without ranges"
        ) from problem
    asked = {method: ranges[method] for method in request["methods"]}
    Path(request["output"]).write_text(json.dumps({"ranges": asked, "means": means}))
    return {}


def _measure(model: Path, feeds: Sequence[Feed]) -> tuple[dict[str, Ranges], dict[str, list[float]]]:
    """What one run of the samples tells."""
    extremes, means = Extremes(), ChannelMeans(model)
    for values in activations(model, feeds):
        for name, array in values:
            extremes.add(name, array)
            means.add(name, array)
    return extremes.ranges(), {name: array.tolist() for name, array in means.means().items()}


if __name__ == "__main__":
    workers.serve(calibrate)
