"""Bias correction: the mean error that rounded weights make in a layer's output is taken off its bias.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, with the mean
of each input channel measured on calibration samples. Padding is not counted: a border sees zeros instead of the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Any: the generated schema's objects, which have no types

import numpy as np

from edgekit.ranges import mean_error
from edgekit.tensors import Array
from edgekit_tflite.layers import kernel_of
from edgekit_tflite.patches import PATCHED
from edgekit_tflite.reading import TFLiteOperator, read_opened

_BIAS = 2  # its place among an operator's inputs


class ChannelMeans:
    """The mean of each channel (last axis) of what every operator with a kernel reads, over all samples."""

    def __init__(self, model: Path) -> None:
        self._wanted = {operator.inputs[0].name for operator in _correctable(model).values()}
        self._sums: dict[str, Array] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, values: Array) -> None:
        """One tensor's values for one sample."""
        if name in self._wanted:
            mean = values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)
            self._sums[name] = self._sums.get(name, 0) + mean
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, Array]:
        """By tensor name, shape (channels,); without those that overflow."""
        found = {name: total / self._counts[name] for name, total in self._sums.items()}
        return {name: means for name, means in found.items() if np.all(np.isfinite(means))}


def correct_biases(quantized: Path, model: Path, means: Mapping[str, Array], output: Path) -> int:
    """Write `quantized`, which was made from the float file `model`, with corrected integer biases to `output`.

    Gives how many were corrected.
    """
    floats, content = _correctable(model), bytearray(quantized.read_bytes())
    places = _constants(content)
    done = 0
    for name, operator in _correctable(quantized).items():
        bias = operator.inputs[_BIAS] if len(operator.inputs) > _BIAS else None
        reads = floats[name].inputs[0].name if name in floats else ""
        if bias is None or not bias.dtype.startswith("int") or bias.key not in places or reads not in means:
            continue
        shift = _mean_error(operator, floats[name], means[reads])
        stored = places[bias.key].view(bias.dtype)
        stored -= np.round(shift / np.array(bias.scales, np.float64)).astype(stored.dtype)
        done += 1
    output.write_bytes(content)
    return done


def _correctable(path: Path) -> dict[str, TFLiteOperator]:
    """Operators by the names of their kernels, without kernels that several use."""
    operators = [operator for operator in read_opened(path).operators if operator.type in PATCHED]
    named = [(kernel.name, operator) for operator in operators if (kernel := kernel_of(operator)) is not None]
    names = [name for name, _ in named]
    return {name: operator for name, operator in named if names.count(name) == 1}


def _mean_error(quantized: TFLiteOperator, original: TFLiteOperator, means: Array) -> Array:
    """What rounding adds to each output channel on average, shape (channels,), in real numbers."""
    before, after = _kernel(original), _kernel(quantized)
    error = after - before
    if original.type == "DEPTHWISE_CONV_2D":  # (1, height, width, channels): a multiplier repeats each input channel
        multiplied = np.repeat(means, error.shape[-1] // len(means))
        added: Array = error.sum(axis=(0, 1, 2)) * multiplied
        return added
    # (channels, ..., inputs)
    return mean_error(error.reshape(len(error), -1, error.shape[-1]).sum(axis=1), means)


def _kernel(operator: TFLiteOperator) -> Array:
    kernel = kernel_of(operator)
    assert kernel is not None
    values = kernel.data.view(kernel.dtype).reshape(kernel.shape).astype(np.float64)
    if not kernel.scales:
        return values
    shape = [1] * len(kernel.shape)
    shape[kernel.axis] = len(kernel.scales)
    return values * np.array(kernel.scales, np.float64).reshape(shape)


def _constants(content: bytearray) -> dict[tuple[int, int], Array]:
    """The bytes of every constant that no other tensor shares, writable, by the tensor's key."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    users: dict[int, list[tuple[int, int]]] = {}
    for graph in range(model.SubgraphsLength()):
        for index in range(model.Subgraphs(graph).TensorsLength()):
            users.setdefault(model.Subgraphs(graph).Tensors(index).Buffer(), []).append((graph, index))
    found = {}
    for number, keys in users.items():
        stored = _stored(model.Buffers(number), content)
        if len(keys) == 1 and stored is not None:
            found[keys[0]] = stored
    return found


def _stored(buffer: Any, content: bytearray) -> Array | None:
    if buffer.Offset() > 1:  # after the flatbuffer
        return np.frombuffer(content, np.uint8, count=buffer.Size(), offset=buffer.Offset())
    return None if buffer.DataIsNone() else buffer.DataAsNumpy()
