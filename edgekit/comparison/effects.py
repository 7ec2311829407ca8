"""What the error that one layer introduces costs at the model's outputs: the float model goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.comparison.parity import decibels
from edgekit.tensors import Array
from edgekit.tracing import Trace, Values, is_output_key

MOST_SAMPLES = 16
KEPT_BYTES = 1 << 28  # of activations, over all samples


@dataclass(frozen=True)
class _Sample:
    inputs: Values
    float_run: Values
    errors: Values  # by the name in the quantized file


class OutputEffects:
    """Keeps the introduced errors of some samples, then runs the float file with one of them at a time."""

    def __init__(self, reference: Trace, float_names: Mapping[str, str]) -> None:
        """`float_names` are the activations by their name in the quantized file."""
        self._reference = reference
        self._float_names = float_names
        self._outputs = [tensor.name for tensor in reference.tensors if is_output_key(tensor.key)]
        self._kept: list[_Sample] = []
        self._bytes = 0

    @property
    def samples(self) -> int:
        """How many samples were kept."""
        return len(self._kept)

    def keep(self, inputs: Values, float_run: Values, errors: Values) -> None:
        """Keep one sample, as long as there is room."""
        if self._kept and (len(self._kept) == MOST_SAMPLES or self._bytes > KEPT_BYTES):
            return
        needed = {name: float_run[name] for name in (*self._float_names.values(), *self._outputs)}
        self._kept.append(_Sample(inputs, needed, errors))
        self._bytes += sum(error.nbytes for error in (*errors.values(), *needed.values()))

    def measure(self) -> dict[str, float | None]:
        """SNR of the outputs in dB by activation; None where no error comes through, or no output is float."""
        return {name: self._measure(name) for name in self._float_names}

    def _measure(self, name: str) -> float | None:
        if not self._outputs or not any(sample.errors[name].any() for sample in self._kept):
            return None
        float_name = self._float_names[name]
        go_on = self._reference.cut([float_name], self._outputs)
        signal = noise = 0.0
        for sample in self._kept:
            disturbed = sample.float_run[float_name] + sample.errors[name]
            outputs = {**go_on({**sample.inputs, float_name: disturbed}), float_name: disturbed}
            signal += sum(_power(sample.float_run[output]) for output in self._outputs)
            noise += sum(_power(outputs[output] - sample.float_run[output]) for output in self._outputs)
        return decibels(signal, noise)


def _power(values: Array) -> float:
    flat = values.astype(float).ravel()
    return float(flat @ flat)
