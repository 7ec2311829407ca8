"""Representative inputs: what integer ranges are measured on, and what the manifest says of each input's range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.data import Data, DataSource, load_data
from edgekit.errors import ConfigError, DataError
from edgekit.manifest import Input
from edgekit.tensors import TensorSpec

LEAST_SAMPLES = 10


def representative(source: DataSource, inputs: Sequence[TensorSpec], *, samples: int) -> Data:
    """`samples` rows spread evenly over the data. Raises DataError on too few, or on an input that never changes."""
    check_samples(samples)
    data = load_data(source, inputs, where="calibration data").spread(samples)
    if len(data) < LEAST_SAMPLES:
        raise DataError(f"{data.where}: {len(data)} samples, expected at least {LEAST_SAMPLES}")
    for name, array in data.inputs.items():
        if array.size and array.min() == array.max():
            raise DataError(f"{data.where}: '{name}' is {array.min()} everywhere; give real samples")
    return data


def check_samples(samples: int) -> None:
    """Raise ConfigError when ranges measured on so few samples would mean little."""
    if samples < LEAST_SAMPLES:
        raise ConfigError(f"calibration_samples is {samples}, expected at least {LEAST_SAMPLES}")


def manifest_inputs(inputs: Sequence[TensorSpec], data: Data) -> tuple[Input, ...]:
    """The model's inputs with the range of values that real samples have."""
    return tuple(Input(spec.name, spec.shape, spec.dtype, _range(data, spec.name)) for spec in inputs)


def _range(data: Data, name: str) -> tuple[float, float]:
    array = data.inputs[name].astype(np.float64)
    return float(array.min()), float(array.max())
