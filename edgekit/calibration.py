"""Representative inputs: what integer ranges are measured on, and what the manifest says of each input's range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgekit.data import Data, DataSource, load_data
from edgekit.errors import ConfigError, DataError
from edgekit.manifest import Input
from edgekit.preprocessing.declared import Preprocessing
from edgekit.tensors import TensorSpec

LEAST_SAMPLES = 10
ENOUGH_SAMPLES = 100  # LiteRT's guide to post-training quantization: "around ~100-500 samples"
LEAST_OVERLAP = 0.5


def representative(source: DataSource, inputs: Sequence[TensorSpec], *, samples: int, in_steps: bool = False) -> Data:
    """`samples` rows spread evenly over the data; with `in_steps` they are sequences.

    Raises DataError on too few, or on an input that never changes.
    """
    check_samples(samples)
    data = load_data(source, inputs, where="calibration data", any_labels=True, in_steps=in_steps).spread(samples)
    if len(data) < LEAST_SAMPLES:
        raise DataError(f"{data.where}: {len(data)} samples, expected at least {LEAST_SAMPLES}")
    for name, array in data.inputs.items():
        if array.size and array.min() == array.max():
            raise DataError(f"{data.where}: '{name}' is {array.min()} everywhere; give real samples")
    return data


def doubts(data: Data, evaluation: Data | None = None) -> tuple[str, ...]:
    """Why ranges that are measured on these samples may not hold, one sentence each; nothing of it is refused.

    Fewer than ENOUGH_SAMPLES; samples or labels that are all equal; and, with `evaluation`, a float input whose two
    ranges have less than LEAST_OVERLAP of what they span together in common, as pixels of 0 to 1 and of 0 to 255.
    """
    elsewhere = () if evaluation is None else _other_ranges(data, evaluation)
    return tuple(f"{data.where}: {doubt}" for doubt in (*_alike(data), *elsewhere))


def _alike(data: Data) -> Iterator[str]:
    if len(data) < ENOUGH_SAMPLES:
        yield f"{len(data)} samples; ranges measured on {ENOUGH_SAMPLES} or more hold better"
    for name, array in data.inputs.items():
        if (array == array[0]).all():
            yield f"all {len(data)} samples of '{name}' are equal; give different ones"
    if data.labels is not None and (data.labels == data.labels[0]).all():
        yield f"all {len(data)} samples have the same label; give samples of every kind"


def _other_ranges(data: Data, evaluation: Data) -> Iterator[str]:
    for name, array in data.inputs.items():
        if not np.issubdtype(array.dtype, np.floating):
            continue  # integers are indices, which have no scale
        (low, high), (least, most) = _range(data, name), _range(evaluation, name)
        if min(high, most) - max(low, least) < LEAST_OVERLAP * (max(high, most) - min(low, least)):
            yield (
                f"'{name}' goes from {low:g} to {high:g}, in the {evaluation.where} from {least:g} to {most:g}; "
                "prepare both in the same way"
            )


def check_samples(samples: int) -> None:
    """Raise ConfigError when ranges measured on so few samples would mean little."""
    if samples < LEAST_SAMPLES:
        raise ConfigError(f"calibration_samples is {samples}, expected at least {LEAST_SAMPLES}")


def manifest_inputs(
    inputs: Sequence[TensorSpec], data: Data, preprocessing: Mapping[str, Preprocessing] | None = None
) -> tuple[Input, ...]:
    """The model's inputs with the range of values that real samples have, and what is declared of them by name."""
    declared = preprocessing or {}
    return tuple(
        Input(spec.name, spec.shape, spec.dtype, _range(data, spec.name), declared.get(spec.name)) for spec in inputs
    )


def _range(data: Data, name: str) -> tuple[float, float]:
    array = data.inputs[name]
    return float(array.min()), float(array.max())
