"""Run by `edgekit.workers`: ranges and means of a float file's activations, once for all variants that take them.

A process of its own: what LiteRT makes of the weights is gone before they are quantized.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit.strict import parse
from edgekit_tflite.activations import read_feeds
from edgekit_tflite.bias_correction import channel_means
from edgekit_tflite.options import TFLiteOptions
from edgekit_tflite.ranges import find_ranges


def calibrate(request: dict[str, Any]) -> dict[str, object]:
    """Write what is asked for as JSON: {tensor name: [least, largest]}, or {tensor name: mean of each channel}."""
    options = parse(TFLiteOptions, request["options"], where="TFLite options")
    feeds = read_feeds(Path(request["calibration"]), request["inputs"])
    try:
        if request["means"]:
            means = channel_means(Path(request["model"]), feeds)
            measured: dict[str, Any] = {name: array.tolist() for name, array in means.items()}
        else:
            measured = dict(find_ranges(Path(request["model"]), feeds, options, request["bits"]))
    except (ValueError, RuntimeError) as problem:  # an operator that LiteRT lacks
        reason = " ".join(str(problem).split())
        raise ConversionError(
            f"LiteRT cannot run the float file on calibration samples ({reason}): choose a precision without ranges"
        ) from problem
    Path(request["output"]).write_text(json.dumps(measured))
    return {}


if __name__ == "__main__":
    workers.serve(calibrate)
