"""Run by `edgekit.workers`: a float file with equalized channels, once for all variants that take it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit.ranges import Feed, read_feeds, snr_db
from edgekit_tflite.equalization import equalize
from edgekit_tflite.reading import check_opens
from edgekit_tflite.running import Runner

CHECKED = 4  # samples
LEAST_DB = 60.0  # of what is the same but for rounding in float32


def run(request: dict[str, Any]) -> dict[str, object]:
    """Write the file; replies how many pairs of layers it has."""
    feeds = read_feeds(Path(request["calibration"]), request["inputs"])
    output = Path(request["output"])
    try:
        pairs = equalize(Path(request["model"]), feeds, output)
    except (ValueError, RuntimeError) as problem:
        reason = " ".join(str(problem).split())
        raise ConversionError(f"LiteRT cannot run the float file ({reason}): leave equalization out") from problem
    check_opens(output)
    _check_same(Path(request["model"]), output, feeds[:CHECKED])
    return {"pairs": pairs}


def _check_same(model: Path, equalized: Path, feeds: Sequence[Feed]) -> None:
    """Raise ConversionError where channels were not what they were taken for."""
    before, after = Runner(model), Runner(equalized)
    wanted, found = ([array for feed in feeds for array in run(feed)] for run in (before, after))
    decibels = snr_db(wanted, found)
    if decibels < LEAST_DB:
        raise ConversionError(
            f"equalized channels change what the float file gives ({decibels:.0f} dB, expected at least "
            f"{LEAST_DB:.0f}): leave equalization out"
        )


if __name__ == "__main__":
    workers.serve(run)
