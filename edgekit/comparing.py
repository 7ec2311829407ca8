"""`edgekit compare`: two runs of one model, whatever they come as, on the same data."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgekit.comparison import LayerComparison, Parity, compare_outputs
from edgekit.comparison.model_file import ModelFile, compare_files
from edgekit.data import Data, DataSource, load_data
from edgekit.errors import ConfigError
from edgekit.layers import keras_layers
from edgekit.lengths import Lengths
from edgekit.progress import Progress
from edgekit.sides import Sides, named

DEFAULT_SAMPLES = 64


@dataclass(frozen=True)
class Comparison:
    """What two runs of a model have in common."""

    samples: int
    outputs: Parity
    layers: LayerComparison | None  # None when it was not asked for


def compare(
    reference: str | Path,
    other: str | Path,
    data: DataSource,
    *,
    progress: Progress,
    samples: int = DEFAULT_SAMPLES,
    layers: bool = False,
    architecture: str | None = None,
    allow_code: bool = False,
    lengths: Lengths | None = None,
) -> Comparison:
    """Compare `other` with `reference` on `samples` rows spread over the data.

    Each is a Keras model, a .tflite or .onnx file, or `bundle.edgekit#variant-id`. With `layers`, `other` is a
    converted file, and `reference` a float file of the same format or a Keras model, which is converted to that
    format at fp32. Raises ConfigError, DataError, ModelError, BundleError, ConversionError and EngineError.
    """
    check_samples(samples)
    with tempfile.TemporaryDirectory(prefix="edgekit-compare-") as folder:
        sides = Sides(
            str(reference), str(other), Path(folder), architecture=architecture, allow_code=allow_code, lengths=lengths
        )
        if layers:
            sides.looked_into()
        rows = load_data(data, sides.first.inputs, where="data", any_labels=True).spread(samples)
        return compare_sides(sides, rows, layers=layers, progress=progress)


def check_samples(samples: int) -> None:
    """Raise ConfigError when there is nothing to compare."""
    if samples < 1:
        raise ConfigError(f"samples is {samples}, expected at least 1")


def compare_sides(sides: Sides, rows: Data, *, layers: bool, progress: Progress) -> Comparison:
    """Compare two opened sides on all of `rows`."""
    with progress.task("compare", 2) as advance:
        outputs = named(sides.second.predict(named(rows.inputs, sides.second.inputs)), sides.first.outputs)
        parity = compare_outputs(sides.first.predict(rows.inputs), outputs)
        advance(1, "outputs compared")
        found = _compare_layers(sides, rows) if layers else None
        advance(1, "")
    return Comparison(len(rows), parity, found)


def _compare_layers(sides: Sides, rows: Data) -> LayerComparison:
    given = {**named(rows.inputs, sides.first.inputs), **named(rows.inputs, sides.second.inputs)}
    model = sides.first.runs
    known = None if isinstance(model, ModelFile) else {item.name: item.bytes > 0 for item in keras_layers(model.model)}
    return compare_files(sides.float_file, sides.looked_into(), given, known_layers=known)
