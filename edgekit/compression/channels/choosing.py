"""Which channels go: their importance, how many of each group, and how many for a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd

import numpy as np
from numpy.typing import NDArray

from edgekit.compression.channels.atoms import Indices
from edgekit.compression.channels.cutting import Kept, macs_after, parameters_after
from edgekit.compression.channels.groups import ChannelGraph, Group
from edgekit.compression.importance import add_up, weight_importance
from edgekit.compression.macs import costs
from edgekit.compression.selection import select
from edgekit.compression.steps import PruneChannels
from edgekit.compression.training import Training
from edgekit.errors import ConfigError
from edgekit.loading import LoadedModel

STEPS = 1000  # a budget is met to this fraction of the ratio
Scores = NDArray[np.float64]  # unit -> importance; entries that are no unit mean nothing


@dataclass(frozen=True)
class Candidate:
    """A group that is to be cut."""

    group: Group
    ratio: float | None  # its own; None where the model's ratio or budget decides
    order: Indices  # its units, those to go first before the others
    least: int  # how many at the end of the order must stay, so that no layer loses all


def chosen(graph: ChannelGraph, step: PruneChannels, loaded: LoadedModel, training: Training) -> Kept:
    """Atom -> whether it stays. Raises ConfigError on settings that contradict each other or cannot be met."""
    asked = settings(graph, step)
    free = [(group, own) for group, own in zip(graph.groups, asked, strict=True) if len(group.units)]
    scores = unit_scores(graph, step, loaded, training)
    candidates = [
        _candidate(graph, group, None if own is step else own.ratio, scores) for group, own in free if own is not None
    ]

    def kept(ratio: float) -> Kept:
        return graph.without(_removed(candidates, step, scores, ratio))

    return kept(step.ratio) if step.ratio is not None else _within_budget(graph, step, kept)


def settings(graph: ChannelGraph, step: PruneChannels) -> list[PruneChannels | None]:
    """For each group its settings, which are `step` itself without any of its own; None where it is skipped."""
    by_layer = select(step, dict.fromkeys(name for group in graph.groups for name in group.layers))
    return [_joint([(name, by_layer[name]) for name in group.layers], step) for group in graph.groups]


def _joint(members: Sequence[tuple[str, PruneChannels | None]], step: PruneChannels) -> PruneChannels | None:
    """One for all layers of a group: skipping one skips all, and two ratios contradict each other."""
    if any(own is None for _, own in members):
        return None
    own = [(name, found) for name, found in members if found is not None and found is not step]
    for name, found in own[1:]:
        if found.ratio != own[0][1].ratio:
            raise ConfigError(
                f"PruneChannels.layers: '{own[0][0]}' and '{name}' keep the same channels, "
                f"but ask for ratios of {own[0][1].ratio:g} and {found.ratio:g}; give them one"
            )
    return own[0][1] if own else step


def unit_scores(graph: ChannelGraph, step: PruneChannels, loaded: LoadedModel, training: Training) -> Scores:
    """The importance of each unit: of the weights that make its channels and those that read them.

    Magnitude and random: each kernel's norms are divided by their mean, since a normalization behind it undoes its
    scale, and the kernels' are averaged. Gradient and Taylor: norms add up, since they estimate a change of the loss.
    """
    relative = step.importance in ("magnitude", "random")
    kernels = [
        weight for weight in graph.model.weights if len(weight.shape) > 1 and id(weight) in graph.findings.slices
    ]
    weights = weight_importance(step.importance, kernels, graph.model, loaded, training)
    totals, counts = np.zeros(len(graph.roots)), np.zeros(len(graph.roots))
    for kernel, importance in zip(kernels, weights, strict=True):
        for axis, atoms in graph.findings.slices[id(kernel)].items():
            others = tuple(other for other in range(importance.ndim) if other != axis)
            norms = add_up(importance, step.norm, others).astype(np.float64)
            if relative:
                norms /= norms.mean() or 1.0
            np.add.at(totals, graph.roots[atoms], norms)
            np.add.at(counts, graph.roots[atoms], 1)
    return totals / np.maximum(counts, 1) if relative else totals


def kept_units(total: int, ratio: float, multiple: int) -> int:
    """How many of `total` units stay: `ratio` of them go, rounded to the nearest multiple where there are two of it.

    At least one multiple stays of such groups, and at least one unit of smaller ones.
    """
    wanted = total * (1 - ratio)
    step = multiple if total >= 2 * multiple else 1
    return min(total, max(1, int(wanted / step + 0.5)) * step)


def _candidate(graph: ChannelGraph, group: Group, ratio: float | None, scores: Scores) -> Candidate:
    """Units in the order of their importance, but the most important of each layer at the end."""
    free = set(group.units.tolist())
    best = set()
    for block in group.blocks:
        units = np.unique(graph.roots[block.atoms])
        if free.issuperset(units.tolist()):
            best.add(int(units[np.argmax(scores[units])]))
    rest = np.array(sorted(free - best), np.int64)
    order = np.concatenate([rest[np.argsort(scores[rest], kind="stable")], np.array(sorted(best), np.int64)])
    return Candidate(group, ratio, order, len(best))


def _removed(candidates: Sequence[Candidate], step: PruneChannels, scores: Scores, ratio: float) -> Iterator[int]:
    if step.scope == "global":
        candidates = _with_global_ratios(candidates, scores, ratio)
    for candidate in candidates:
        group = candidate.group
        own = ratio if candidate.ratio is None else candidate.ratio
        stays = kept_units(len(group.units) + group.fixed, own, _multiple(group, step.round_to))
        gone = len(group.units) - max(stays - group.fixed, 0)
        yield from candidate.order[: min(gone, len(group.units) - candidate.least)].tolist()


def _with_global_ratios(candidates: Sequence[Candidate], scores: Scores, ratio: float) -> list[Candidate]:
    """Each group's own ratio when the least important of all groups' units go.

    Units are compared by their importance within their group (Molchanov et al. 2017 normalize by layer too): sums over
    kernels of different sizes cannot be compared.
    """
    common = [candidate for candidate in candidates if candidate.ratio is None]
    found = [scores[candidate.group.units] for candidate in common]
    found = [values / (values.mean() or 1.0) for values in found]
    everything = np.sort(np.concatenate(found)) if found else np.zeros(1)
    threshold = everything[min(round(ratio * len(everything)), len(everything) - 1)]
    below = {
        id(candidate): float((values < threshold).mean()) if ratio < 1 else 1.0
        for candidate, values in zip(common, found, strict=True)
    }
    return [replace(candidate, ratio=below.get(id(candidate), candidate.ratio)) for candidate in candidates]


def _multiple(group: Group, round_to: int) -> int:
    """How many units make a multiple of `round_to` channels in the group's first layer; a head is wide by itself."""
    if group.blocks[0].what == "heads":
        return 1
    count = len(group.units) + group.fixed
    channels = max(1, len(group.blocks[0].atoms) // count)
    return round_to // gcd(round_to, channels)


def _within_budget(graph: ChannelGraph, step: PruneChannels, kept: Callable[[float], Kept]) -> Kept:
    """The smallest ratio that meets the budget."""
    found = list(costs(graph.model))

    def size(ratio: float) -> int:
        mask = kept(ratio)
        return parameters_after(graph, mask) if step.max_parameters is not None else macs_after(graph, mask, found)

    key = "max_parameters" if step.max_parameters is not None else "max_macs"
    limit = getattr(step, key)
    if size(1.0) > limit:
        raise ConfigError(
            f"PruneChannels.{key} is {limit:,}, but cutting alone leaves {size(1.0):,} or more of {size(0.0):,}; "
            f"raise it to that{_advice(step)}"
        )
    low, high = -1, STEPS  # the budget is met at `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if size(middle / STEPS) <= limit else (middle, high)
    return kept(high / STEPS)


def _advice(step: PruneChannels) -> str:
    ways = [f"lower round_to from {step.round_to}"] if step.round_to > 1 else []
    ways += ["skip fewer layers"] if step.layers else []
    return f", or {' or '.join(ways)}" if ways else ""
