"""Symmetric int8 after training: which nodes are quantized, by which ranges, and what is left in float and why.

Only the inputs of nodes with a kernel are rounded; kernels are int8 per output channel, tables of embeddings per row,
biases stay float. That is the form that TensorRT takes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ConversionError, did_you_mean
from edgekit.ranges import FEWEST, Feed, is_apart, snr_db
from edgekit.tensors import Array
from edgekit.tracing import keras_layers
from edgekit_onnx.activations import FOLLOWERS
from edgekit_onnx.bias_correction import correct_biases
from edgekit_onnx.graphs import KERNEL_AXES, Graph
from edgekit_onnx.options import AUTO, METHODS, ONNXOptions
from edgekit_onnx.qdq import activation_scale, constant, dequantize_kernel, insert_pair, round_kernel
from edgekit_onnx.ranges import Limits, Seen, find_limits, watch
from edgekit_onnx.running import run_outputs
from edgekit_onnx.smoothing import smooth
from edgekit_onnx.tables import find_tables, write_tables

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OF_ACTIVATIONS = "both factors are activations"  # why a product is left in float
RECURRENT = ("LSTM", "GRU", "RNN")  # kernels that no int8 form here covers
_SHOWN = 4  # names in a note


@dataclass(frozen=True)
class Chosen:
    """The nodes to quantize, and why others with products stay in float: reason -> their names."""

    nodes: tuple[str, ...]
    tables: tuple[str, ...]  # the nodes that look up embeddings
    left: Mapping[str, tuple[str, ...]]


def quantize(
    model: ModelProto, feeds: Sequence[Feed], options: ONNXOptions, layers: Sequence[str]
) -> tuple[ModelProto, tuple[str, ...]]:
    """The int8 model, and what a reader of the report must know.

    With calibration "auto", every method's ranges are tried on samples held apart, and the best SNR counts. `layers`
    are the Keras names of all layers, which `keep_float` names; without them it names nodes. Raises ConversionError.
    """
    methods, measured, held, notes = _plan(options.calibration, feeds)
    chosen = choose(Graph(model), options.keep_float, layers)
    seen: Mapping[str, Seen] = watch(model, _read(Graph(model), chosen.nodes), measured)
    if options.smoothing:
        smoothed = smooth(model, chosen.nodes, seen)
        model, notes = smoothed.model, (*notes, *smoothed.notes)
        seen = {name: smoothed.seen[name] for name in _read(Graph(model), chosen.nodes)}
    limits = find_limits(model, seen, measured, methods=methods, percentile=options.percentile)
    dead = tuple(name for name, limit in limits[methods[0]].items() if limit == 0)
    left = {**chosen.left, "what they read is 0 in all samples": _readers(model, chosen.nodes, dead)}
    notes += told_left(left)
    means = {name: tensor.means for name, tensor in seen.items()}
    base = correct_biases(model, chosen.nodes, means) if options.bias_correction else model
    if not held:
        return write(base, chosen, limits[methods[0]]), notes
    judge = partial(_judge, chosen=chosen, held=held, wanted=run_outputs(model, held, where="float model"))
    made = [judge(base, method, each, corrected=options.bias_correction) for method, each in limits.items()]
    best = max(made, key=attrgetter("snr_db"))
    if options.bias_correction:  # whether that helps is asked of the best method alone
        made.append(judge(model, best.method, limits[best.method], corrected=False))
    ranked = sorted(made, key=attrgetter("snr_db"), reverse=True)
    told = ", ".join(map(str, ranked))
    return ranked[0].model, (f"calibration by SNR on {len(held)} samples held apart: {told}", *notes)


@dataclass(frozen=True)
class _Candidate:
    """An int8 model, and how near its outputs are to the float model's."""

    model: ModelProto
    method: str
    corrected: bool
    snr_db: float

    def __str__(self) -> str:
        return f"{self.method}{' with bias correction' if self.corrected else ''} {self.snr_db:.1f} dB"


def _judge(
    base: ModelProto,
    method: str,
    limits: Limits,
    *,
    corrected: bool,
    chosen: Chosen,
    held: Sequence[Feed],
    wanted: Sequence[Array],
) -> _Candidate:
    made = write(base, chosen, limits)
    return _Candidate(made, method, corrected, snr_db(wanted, run_outputs(made, held, where="int8 model")))


def told_left(left: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A note for each reason to leave nodes in float."""
    return tuple(f"left in float, {why}: {_shorten(nodes)}" for why, nodes in left.items() if nodes)


def choose(graph: Graph, keep_float: Sequence[str], layers: Sequence[str]) -> Chosen:
    """Raises ConversionError when a pattern matches nothing that could be quantized."""
    weighted = {node.name: node for node in graph.weighted() if graph.array(graph.kernel(node) or "").dtype.kind == "f"}
    tables = {node.name: node for node in find_tables(graph)}
    names = {name: _layer_names(graph, node, layers) for name, node in (weighted | tables).items()}
    kept = {name for name, own in names.items() if any(fnmatchcase(word, pat) for word in own for pat in keep_float)}
    for pattern in keep_float:
        if not any(fnmatchcase(word, pattern) for own in names.values() for word in own):
            known = {word for own in names.values() for word in own}
            raise ConversionError(
                f"keep_float '{pattern}' matches no layer with a kernel in the ONNX graph{did_you_mean(pattern, known)}"
            )
    constants = {name for name, node in weighted.items() if graph.constant_behind(node.input[0]) is not None}
    products = [node.name for node in graph.nodes(*KERNEL_AXES) if node.name not in weighted]
    left = {
        "as keep_float says": tuple(sorted(kept)),
        OF_ACTIVATIONS: tuple(products),
        "recurrent": tuple(node.name for node in graph.nodes(*RECURRENT)),
        "inside a loop": tuple(node.name for node in graph.nodes("Loop", "Scan")),
        "both factors are constants": tuple(sorted(constants)),
    }
    quantized = tuple(name for name in weighted if name not in kept | constants)
    return Chosen(quantized, tuple(name for name in tables if name not in kept), left)


def write(model: ModelProto, chosen: Chosen, limits: Limits) -> ModelProto:
    """A copy in which the chosen nodes read rounded values, but for what they read without a range."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    write_tables(copy, chosen.tables)
    graph = Graph(copy)
    for node in [node for node in graph.weighted() if node.name in chosen.nodes]:
        tensor = node.input[0]
        limit = limits[tensor]
        if limit == 0:
            continue
        if not np.isfinite(limit):
            raise ConversionError(f"'{node.name}' reads values that are not finite on the calibration samples")
        settings = (
            constant(graph, f"{tensor}_scale", activation_scale(limit)),
            constant(graph, "zero_point_int8", np.array(0, np.int8)),
        )
        kernel = round_kernel(graph, node)
        node.input[0] = insert_pair(graph, tensor, settings)
        dequantize_kernel(graph, node, kernel)
    graph.remove_unused()
    del copy.graph.value_info[:]  # the types of before
    return copy


def _plan(calibration: str, feeds: Sequence[Feed]) -> tuple[tuple[str, ...], list[Feed], list[Feed], tuple[str, ...]]:
    """(methods, samples to measure on, samples held apart, notes)."""
    if calibration != AUTO:
        return (calibration,), list(feeds), [], ()
    if len(feeds) < FEWEST:
        few = f"calibration by min-max: {len(feeds)} samples are too few to choose a method by, give {FEWEST}"
        return (METHODS[0],), list(feeds), [], (few,)
    apart = is_apart(len(feeds))
    split: dict[bool, list[Feed]] = {True: [], False: []}
    for feed, held in zip(feeds, apart, strict=True):
        split[bool(held)].append(feed)
    return METHODS, split[False], split[True], ()


def _layer_names(graph: Graph, node: NodeProto, layers: Sequence[str]) -> tuple[str, ...]:
    """What patterns may call it: its Keras layers; where tf2onnx named it anew, those of what goes on from it."""
    if not layers:
        return (node.name,)
    found = keras_layers((node.name, *node.output, graph.kernel(node) or ""), layers)
    return found or next(filter(None, (keras_layers(after.output, layers) for after in _after(graph, node))), ())


def _after(graph: Graph, node: NodeProto) -> Iterator[NodeProto]:
    """Its bias, its activation: the nodes that each are all that reads the one before."""
    readers = graph.consumers(node.output[0])
    while len(readers) == 1 and readers[0].op_type in FOLLOWERS:
        yield readers[0]
        readers = graph.consumers(readers[0].output[0])


def _read(graph: Graph, nodes: Collection[str]) -> dict[str, int]:
    """What these nodes read, each with the axis of its channels."""
    return {
        node.input[0]: -1 if node.op_type in ("MatMul", "Gemm") else 1
        for node in graph.weighted()
        if node.name in nodes
    }


def _readers(model: ModelProto, nodes: Collection[str], tensors: Collection[str]) -> tuple[str, ...]:
    return tuple(node.name for node in model.graph.node if node.name in nodes and node.input[0] in tensors)


def _shorten(names: Iterable[str]) -> str:
    return ", ".join(_shown(list(names)))


def _shown(names: list[str]) -> Iterator[str]:
    yield from names[:_SHOWN]
    if len(names) > _SHOWN:
        yield f"and {len(names) - _SHOWN} more"
