"""float16 with islands of float32: what overflows, underflows or sums up too far there, found by running samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.ranges import FEWEST, Feed, is_apart
from edgekit.tensors import Array
from edgekit_onnx.angles import positional
from edgekit_onnx.graphs import Graph, bodies
from edgekit_onnx.halving import cast, simulate
from edgekit_onnx.running import run_inside, run_outputs

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

ENOUGH = 0.9999  # cosine of outputs, to float32's

_INFO = np.finfo(np.float16)
_LARGEST = float(_INFO.max) / 2  # room for what the samples did not show
_LEAST = float(_INFO.smallest_normal)  # below, float16 has fewer digits
_SUMS = ("ReduceMean", "ReduceSum", "ReduceL1", "ReduceLogSumExp", "GlobalAveragePool")
_SQUARES = ("ReduceL2", "ReduceSumSquare", "LayerNormalization", "InstanceNormalization", "RMSNormalization")
_FIXED = (*_SUMS, *_SQUARES, "Softmax", "LogSoftmax", "Exp", "Pow")  # without samples, and inside loops
_ROUNDS = 6
_STEP = 16  # a round widens by one node in so many
_LOOKED_AT = 4  # samples that the worst nodes are found with


@dataclass(frozen=True)
class Halved:
    """A float16 model."""

    model: ModelProto
    islands: tuple[str, ...]  # names of the nodes that stay float32
    notes: tuple[str, ...]


def halve(model: ModelProto, feeds: Sequence[Feed]) -> Halved:
    """Weights and computation in float16, inputs and outputs in float32, islands of float32 where they are needed.

    The float model is run on the samples; then both are compared on samples held apart, and the islands widened by the
    nodes whose error is largest until the cosine is ENOUGH, or more of them do not help. Without samples, the islands
    are a fixed list of operators. Raises ConversionError.
    """
    graph = Graph(model)
    within = _inside_loops(model.graph)
    if not feeds:
        fixed = {node.name: "by a fixed list" for node in graph.nodes(*_FIXED)} | _always(graph)
        islands = (*fixed, *within)
        return Halved(cast(model, islands), islands, (_counted(fixed, "without calibration data"),))
    measured, held = _split(feeds)
    peaks, sizes = _measure(model, graph, measured)
    found = _always(graph) | find_islands(graph, peaks, sizes)
    widened, cosine = _widen(model, graph, held, [*found, *within], {*peaks, *_floats(graph)})
    seen = f"rounded so, cosine {cosine:.6f} to float32 on {len(held)} samples"
    seen += " held apart" if len(feeds) >= FEWEST else ", which were measured on, too"
    every = found | dict.fromkeys(widened, "imprecise in float16")
    islands = (*every, *within)
    return Halved(cast(model, islands), islands, (_counted(every, seen),))


def find_islands(graph: Graph, peaks: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, str]:
    """Node names with reasons. `peaks` are the largest magnitudes of float tensors, `sizes` the values in a sample.

    A sum is judged by its largest term times their number: the engines add up in whatever order they like.
    """
    found = {}
    for node in graph.model.graph.node:
        tensors = [name for name in (*node.input, *node.output) if name in peaks]
        largest = max((peaks[name] for name in tensors), default=0.0)
        least = min((peaks[name] for name in node.output if peaks.get(name, 0.0) > 0), default=1.0)
        total = _total(node, peaks, sizes)
        if largest > _LARGEST:
            found[node.name] = f"reaches {largest:.3g}"
        elif total > _LARGEST:
            found[node.name] = f"sums up to {total:.3g}"
        elif least < _LEAST:
            found[node.name] = f"stays below {least:.3g}"
    return found


def _total(node: NodeProto, peaks: Mapping[str, float], sizes: Mapping[str, int]) -> float:
    if node.op_type not in (*_SUMS, *_SQUARES) or node.input[0] not in peaks:
        return 0.0
    peak, size = peaks[node.input[0]], sizes[node.input[0]]
    if node.op_type in _SUMS:
        return peak * size / max(sizes.get(node.output[0], 1), 1)
    count = size if node.op_type.startswith("Reduce") else sizes.get(node.input[1], size)  # a scale for each term
    return peak**2 * count / (max(sizes.get(node.output[0], 1), 1) if node.op_type.startswith("Reduce") else 1)


def _always(graph: Graph) -> dict[str, str]:
    """Nodes that samples need not show: those of the samples may be short."""
    return _by_constants(graph) | positional(graph)


def _by_constants(graph: Graph) -> dict[str, str]:
    """Nodes that take a constant that float16 cannot hold."""
    peaks = {name: float(np.abs(values).max(initial=0)) for name, values in _floats(graph).items()}
    bad = {name for name, peak in peaks.items() if peak > float(_INFO.max) or 0 < peak < _LEAST}
    return {
        node.name: f"takes {peaks[name]:.3g}" for node in graph.model.graph.node for name in node.input if name in bad
    }


def _floats(graph: Graph) -> dict[str, Array]:
    arrays = {name: graph.array(name) for name in graph.constants}
    return {name: values for name, values in arrays.items() if values.dtype == np.float32}


def _split(feeds: Sequence[Feed]) -> tuple[list[Feed], list[Feed]]:
    if len(feeds) < FEWEST:
        return list(feeds), list(feeds)
    apart = is_apart(len(feeds))
    return (
        [feed for feed, held in zip(feeds, apart, strict=True) if not held],
        [feed for feed, held in zip(feeds, apart, strict=True) if held],
    )


def _measure(model: ModelProto, graph: Graph, feeds: Sequence[Feed]) -> tuple[dict[str, float], dict[str, int]]:
    """Largest magnitudes of all float tensors, and how many values they have in one sample."""
    constants = _floats(graph)
    peaks, sizes = dict[str, float](), {name: values.size for name, values in constants.items()}
    for values in run_inside(model, _tensors(model), feeds, where="float model"):
        for name, array in values.items():
            if array.dtype == np.float32:
                peaks[name] = max(peaks.get(name, 0.0), _peak(array))
                sizes[name] = array.size
    return peaks, sizes


def _peak(values: Array) -> float:
    peak = float(np.abs(values).max(initial=0))
    return peak if np.isfinite(peak) else float("inf")


def _tensors(model: ModelProto) -> list[str]:
    inputs = {tensor.name for tensor in model.graph.initializer}
    given = [value.name for value in model.graph.input if value.name not in inputs]
    return [*given, *(name for node in model.graph.node for name in node.output if name)]


def _widen(
    model: ModelProto, graph: Graph, held: Sequence[Feed], islands: Sequence[str], floats: Collection[str]
) -> tuple[tuple[str, ...], float]:
    """(further islands, the cosine with them)."""
    wanted = run_outputs(model, held, where="float model")

    def cosine_with(more: Sequence[str]) -> tuple[ModelProto, float]:
        simulated = simulate(model, {*islands, *more}, floats)
        return simulated, _cosine(wanted, run_outputs(simulated, held, where="float16 model"), len(held))

    tried, kept = list[str](), tuple[str, ...]()
    simulated, cosine = cosine_with(())
    for _ in range(_ROUNDS):
        if cosine >= ENOUGH:
            break
        worst = _worst(model, graph, simulated, held[:_LOOKED_AT], {*islands, *tried})
        if not worst:
            break
        tried += worst
        simulated, reached = cosine_with(tried)
        if reached > cosine:
            kept, cosine = tuple(tried), reached
    return kept, cosine


def _cosine(wanted: Sequence[Array], got: Sequence[Array], samples: int) -> float:
    """The least over all outputs, each over all samples."""
    outputs = len(wanted) // samples
    return min(_cosine_of(wanted[index::outputs], got[index::outputs]) for index in range(outputs))


def _cosine_of(wanted: Sequence[Array], got: Sequence[Array]) -> float:
    one, other = (
        np.concatenate([array.reshape(-1) for array in arrays]).astype(np.float64) for arrays in (wanted, got)
    )
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norms if norms > 0 and np.isfinite(norms) else float(np.array_equal(one, other))


def _worst(
    model: ModelProto, graph: Graph, half: ModelProto, feeds: Sequence[Feed], islands: Collection[str]
) -> list[str]:
    """The nodes outside of the islands that add most to the relative error."""
    there = {name for node in half.graph.node for name in node.output}
    names = [name for name in _tensors(model) if name in there]
    noise, power = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    runs = (run_inside(each, names, feeds, where=where) for each, where in ((model, "float"), (half, "float16")))
    for whole, halved in zip(*runs, strict=True):
        for name in names:
            if whole[name].dtype == np.float32:
                expected = whole[name].astype(np.float64)
                noise[name] += float(np.sum(np.square(np.nan_to_num(halved[name].astype(np.float64)) - expected)))
                power[name] += float(np.sum(np.square(expected)))
    error = {name: noise[name] / power[name] for name in names if power[name] > 0}
    added = {
        node.name: max(error.get(name, 0.0) for name in node.output) - max(error.get(name, 0.0) for name in node.input)
        for node in graph.model.graph.node
        if node.name not in islands and node.input
    }
    ranked = sorted((name for name, value in added.items() if value > 0), key=lambda name: -added[name])
    return ranked[: max(1, len(graph.model.graph.node) // _STEP)]


def _inside_loops(graph: GraphProto, inner: bool = False) -> list[str]:
    found = [node.name for node in graph.node if inner and node.op_type in _FIXED]
    return [*found, *(name for node in graph.node for body in bodies(node) for name in _inside_loops(body, True))]


def _counted(islands: Mapping[str, str], seen: str) -> str:
    """One line: how many, for which reasons, with an example each."""
    if not islands:
        return f"float16 throughout: {seen}"
    kinds: dict[str, list[str]] = {}
    for name, reason in islands.items():
        kinds.setdefault(" ".join(reason.split()[:2]) if reason[-1].isdigit() else reason, []).append(name)
    told = "; ".join(
        f"{len(names)} {kind} ({_example(names[0], islands[names[0]], kind)})" for kind, names in kinds.items()
    )
    return f"float16 with {len(islands)} node{'s' if len(islands) > 1 else ''} in float32: {told}; {seen}"


def _example(name: str, reason: str, kind: str) -> str:
    return name if reason == kind else f"{name}: {reason}"
