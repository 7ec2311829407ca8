"""Cross-layer equalization: channels that one layer makes and the next alone reads get ranges of like size.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1: a positive
factor of a channel goes through ReLU, so the layer that makes it may divide by what the next multiplies with. Weights
have a scale for each output channel here, which no factor changes; so activations are made alike, by their largest
values on calibration samples. A depthwise convolution reads each channel with a scale of its own, and channels become
equal; a layer that mixes them shares the factors between its weights and what they meet, as SmoothQuant does (Xiao et
al. 2023). ReLU6 caps at 6 whatever the factor: behind it, no channel is made smaller, and none larger than the largest,
so that all calibration samples are capped where they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: the generated schema's objects, which have no types

import numpy as np

from edgekit.ranges import Feed
from edgekit.tensors import Array
from edgekit_tflite.activations import activations
from edgekit_tflite.reading import mapped
from edgekit_tflite.writing import write_model

HEADROOM = 3.0  # a channel that is made larger reaches the largest only with this much more than samples showed
LARGEST_FACTOR = 64.0

_KERNEL, _BIAS = 1, 2  # their places among an operator's inputs
_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_THROUGH = ("PAD", "MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D")  # which keep channels apart, and their factors


@dataclass(frozen=True)
class Pair:
    """A layer and the only one that reads its channels."""

    first: Any  # OperatorT
    second: Any
    channels: str  # the name of the tensor that the first gives
    is_depthwise: tuple[bool, bool]
    capped: bool  # by ReLU6


def equalize(source: Path, feeds: Sequence[Feed], output: Path) -> int:
    """Write a float file with equalized channels, by calibration samples; gives the number of pairs.

    Raises ValueError and RuntimeError as LiteRT does.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(mapped(source), 0)
    found = list(_pairs(model))
    peaks = _peaks(source, {pair.channels for pair in found}, feeds)
    for pair in found:
        _scale(model, pair, peaks[pair.channels])
    write_model(model, output)
    return len(found)


def factors(peaks: Array, columns: Array | None, *, capped: bool) -> Array:
    """What each channel is divided by, shape (channels,), where 1 leaves it.

    `peaks` are the largest magnitudes of the channels; `columns` of the weights that read them, where these share their
    scales.
    """
    alive = peaks > 0 if columns is None else (peaks > 0) & (columns > 0)
    if not alive.any():
        return np.ones_like(peaks)
    wanted = peaks if columns is None else np.sqrt(peaks / np.where(alive, columns, 1.0))
    safe = np.where(alive, wanted, 1.0)
    found = safe * np.max(peaks[alive] / safe[alive]) / np.max(peaks) * HEADROOM
    most = 1.0 if capped or columns is None else LARGEST_FACTOR
    return np.where(alive, np.clip(found, 1 / LARGEST_FACTOR, most), 1.0)


def _pairs(model: Any) -> Iterator[Pair]:
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    kinds = _names(schema.BuiltinOperator)
    functions = _names(schema.ActivationFunctionType)
    readers: dict[int, list[Any]] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            readers.setdefault(int(index), []).append(operator)
    kind = {id(operator): kinds[model.operatorCodes[operator.opcodeIndex].builtinCode] for operator in graph.operators}
    own = _owned(model)
    for first in graph.operators:
        if kind[id(first)] not in _LAYERS or functions[_function(first)] not in ("NONE", "RELU", "RELU6"):
            continue
        second = _reader(graph, readers, kind, int(first.outputs[0]))
        if second is None or not all(_is_own(model, graph, operator, own) for operator in (first, second)):
            continue
        depthwise = (kind[id(first)] == _LAYERS[1], kind[id(second)] == _LAYERS[1])
        if _reads_all(graph, first, second, depthwise[1]):
            name = graph.tensors[first.outputs[0]].name.decode()
            yield Pair(first, second, name, depthwise, functions[_function(first)] == "RELU6")


def _reader(graph: Any, readers: Mapping[int, Sequence[Any]], kind: Mapping[int, str], tensor: int) -> Any:
    """The only layer that reads a tensor, through what keeps channels apart; None where there is none."""
    while tensor not in graph.outputs and len(readers.get(tensor, ())) == 1:
        (operator,) = readers[tensor]
        if kind[id(operator)] in _LAYERS:
            return operator if int(operator.inputs[0]) == tensor else None
        if kind[id(operator)] not in _THROUGH or not _keeps_channels(graph, operator):
            return None
        tensor = int(operator.outputs[0])
    return None


def _keeps_channels(graph: Any, operator: Any) -> bool:
    """Whether channels stay the last axis, and the mean is not over them."""
    taken, given = (graph.tensors[index].shape for index in (operator.inputs[0], operator.outputs[0]))
    return len(taken) == 4 and taken[-1] == given[-1] and len(given) in (2, 4)


def _reads_all(graph: Any, first: Any, second: Any, is_depthwise: bool) -> bool:
    """Whether the second's kernel has an input for each channel of the first's, not those of a group or of a place."""
    made = graph.tensors[first.outputs[0]].shape[-1]
    kernel = graph.tensors[second.inputs[_KERNEL]].shape
    return bool(kernel[-1] % made == 0 if is_depthwise else kernel[-1] == made)


def _scale(model: Any, pair: Pair, peaks: Array) -> None:
    graph = model.subgraphs[0]
    kernel, bias = (_values(model, graph, pair.first, place) for place in (_KERNEL, _BIAS))
    reading = _values(model, graph, pair.second, _KERNEL)
    mixed = None if pair.is_depthwise[1] else np.abs(reading).max(axis=tuple(range(reading.ndim - 1)))
    found = factors(peaks, mixed, capped=pair.capped)
    shape = (-1,) if pair.is_depthwise[0] else (-1, *[1] * (kernel.ndim - 1))
    kernel /= found.reshape(shape)
    if bias is not None:
        bias /= found
    reading *= np.repeat(found, reading.shape[-1] // len(found))


def _peaks(source: Path, wanted: set[str], feeds: Sequence[Feed]) -> dict[str, Array]:
    """The largest magnitude of each channel (last axis), over all samples."""
    found: dict[str, Array] = {}
    for values in activations(source, feeds):
        for name, array in values:
            if name in wanted:
                peaks = np.abs(array).reshape(-1, array.shape[-1]).max(axis=0)
                found[name] = np.maximum(found[name], peaks) if name in found else peaks
    return found


def _values(model: Any, graph: Any, operator: Any, place: int) -> Any:
    """A constant, writable in place; None where it has none."""
    if len(operator.inputs) <= place or operator.inputs[place] < 0:
        return None
    tensor = graph.tensors[operator.inputs[place]]
    buffer = model.buffers[tensor.buffer]
    buffer.data = np.array(buffer.data, np.uint8)
    return buffer.data.view(np.float32).reshape(tensor.shape)


def _owned(model: Any) -> set[int]:
    """Numbers of the buffers that one tensor and one operator use."""
    tensors = Counter(tensor.buffer for graph in model.subgraphs for tensor in graph.tensors)
    reads = Counter(
        graph.tensors[index].buffer
        for graph in model.subgraphs
        for operator in graph.operators
        for index in operator.inputs
        if index >= 0
    )
    return {number for number, times in tensors.items() if times == 1 and reads[number] == 1}


def _is_own(model: Any, graph: Any, operator: Any, own: set[int]) -> bool:
    """Whether its kernel and bias are float32 constants that nothing else uses; zeros stay zeros for all."""
    from ai_edge_litert import schema_py_generated as schema

    tensors = [graph.tensors[index] for index in operator.inputs[_KERNEL : _BIAS + 1] if index >= 0]
    stored = [model.buffers[tensor.buffer].data for tensor in tensors]
    if any(tensor.type != schema.TensorType.FLOAT32 for tensor in tensors) or any(data is None for data in stored):
        return False
    return tensors[0].buffer in own and all(
        tensor.buffer in own or not np.any(data) for tensor, data in zip(tensors[1:], stored[1:], strict=True)
    )


def _function(operator: Any) -> int:
    return int(getattr(operator.builtinOptions, "fusedActivationFunction", 0))


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
