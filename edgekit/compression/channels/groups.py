"""The dependency graph of a model's channels (Fang et al. 2023, "DepGraph"): which go together, which must stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any  # Any: keras models and operations, which have no types

import numpy as np
from numpy.typing import NDArray

from edgekit.compression.channels.atoms import Block, Indices, Layout
from edgekit.compression.channels.calls import Call, Findings
from edgekit.compression.channels.sequence_rules import RULES
from edgekit.compression.flattening import is_layer, nodes


@dataclass(frozen=True)
class Group:
    """Channels of layers that depend on each other.

    A unit is a set of channels that go together, named by the smallest atom among them.
    """

    blocks: tuple[Block, ...]  # what the layers make, in the order of the graph
    units: Indices  # those that may go
    fixed: int  # how many must stay
    reason: str  # why, for the first of them; "" when all may go

    @property
    def layers(self) -> list[str]:
        """Names of the layers that make the channels, each once."""
        return list(dict.fromkeys(block.layer for block in self.blocks))


@dataclass(frozen=True)
class ChannelGraph:
    """The channels of a flat model."""

    model: Any
    findings: Findings
    roots: Indices  # atom -> unit
    groups: tuple[Group, ...]

    def without(self, units: Iterable[int]) -> NDArray[np.bool_]:
        """Atom -> whether it stays when these units go."""
        return ~np.isin(self.roots, np.fromiter(units, np.int64))


def channel_graph(model: Any) -> ChannelGraph:
    """Find the channels of a flat Functional model; what is not understood must stay, with its reason."""
    findings = Findings()
    for tensor in model.inputs:
        size = tensor.shape[-1] if len(tensor.shape) > 1 else 0
        atoms = findings.atoms.fixed(size or 0, f"they are those of the model's input '{tensor.name}'")
        findings.layouts[id(tensor)] = Layout(-1, atoms)
    for node in nodes(model):
        call = Call.of(findings, node)
        for tensor, layout in zip(node.outputs, _layouts(call), strict=True):
            findings.layouts[id(tensor)] = layout
    for tensor in model.outputs:
        findings.atoms.fix(findings.layouts[id(tensor)].atoms, "they are an output of the model")
    roots = findings.atoms.roots()
    return ChannelGraph(model, findings, roots, tuple(_groups(findings, roots)))


def _layouts(call: Call) -> list[Layout]:
    operation = call.operation
    rule = RULES.get(type(operation).__name__)
    if rule is None or not type(operation).__module__.startswith("keras."):
        return call.refuse(f"{call.label} is not known to channel pruning")
    if is_layer(operation) and operation.quantization_mode is not None:
        return call.refuse(f"{call.label} is quantized")
    layouts = rule(call)
    unknown = [weight for weight in getattr(operation, "weights", ()) if id(weight) not in call.findings.slices]
    if not unknown or id(operation) in call.findings.refused:
        return layouts
    reason = f"{call.label} has a weight '{unknown[0].name}' that is not known to channel pruning"
    for layout in layouts:
        call.fix(layout.atoms, reason)
    return call.refuse(reason)


def _groups(findings: Findings, roots: Indices) -> Iterable[Group]:
    reasons = findings.atoms.reasons()
    for blocks in _connected(findings.atoms.blocks, roots):
        units = np.unique(np.concatenate([roots[block.atoms] for block in blocks]))
        fixed = [unit for unit in units.tolist() if unit in reasons]
        free = np.setdiff1d(units, np.array(fixed, np.int64))
        yield Group(tuple(blocks), free, len(fixed), reasons[fixed[0]] if fixed else "")


def _connected(blocks: list[Block], roots: Indices) -> list[list[Block]]:
    """Blocks that share a unit, directly or by way of others, in the order of their first."""
    found: list[tuple[list[Block], set[int]]] = []
    for block in blocks:
        members, units = [block], set(roots[block.atoms].tolist())
        apart = []
        for others, theirs in found:
            if units.isdisjoint(theirs):
                apart.append((others, theirs))
            else:
                members, units = [*others, *members], units | theirs
        found = [*apart, (members, units)]
    order = {id(block): position for position, block in enumerate(blocks)}
    joined = [sorted(members, key=lambda block: order[id(block)]) for members, _ in found]
    return sorted(joined, key=lambda members: order[id(members[0])])
