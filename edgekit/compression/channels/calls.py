"""What a rule is told about one call of a layer, and what it can say about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any  # Any: keras operations, tensors and variables, which have no types

import numpy as np

from edgekit.compression.channels.atoms import Atoms, Indices, Layout
from edgekit.loading import import_keras

Count = Callable[[Indices], int]  # how many of these entries stay
Edit = Callable[[Any, Count], None]  # changes a layer's config (a dict), or an operation of keras.ops itself


@dataclass
class Findings:
    """What is known about the channels of a model."""

    atoms: Atoms = field(default_factory=Atoms)
    layouts: dict[int, Layout] = field(default_factory=dict)  # id of a tensor -> its layout
    slices: dict[int, dict[int, Indices]] = field(default_factory=dict)  # id of a variable -> {axis: atoms along it}
    edits: dict[int, list[Edit]] = field(default_factory=dict)  # id of an operation -> changes to its settings
    roles: dict[tuple[int, str], Indices] = field(default_factory=dict)  # what a shared layer was first called with
    refused: set[int] = field(default_factory=set)  # ids of operations that are not followed


@dataclass(frozen=True)
class Call:
    """One call of one operation; a rule returns the layouts of its outputs."""

    findings: Findings
    operation: Any  # the operation of the graph
    layer: Any  # the same, or the layer inside a wrapper
    tensors: Sequence[Any]  # the keras tensors that it takes, masks left out
    masks: Sequence[Any]
    outputs: Sequence[Any]
    arguments: Any  # keras SymbolicArguments

    @classmethod
    def of(cls, findings: Findings, node: Any) -> Call:
        """A call for a node of the graph."""
        flatten = import_keras().tree.flatten
        named = node.arguments.kwargs
        masks = [tensor for key in named if "mask" in key for tensor in _tensors(flatten(named[key]))]
        given = [*flatten(node.arguments.args), *(flatten([named[key] for key in named if "mask" not in key]))]
        operation = node.operation
        return cls(findings, operation, operation, _tensors(given), masks, node.outputs, node.arguments)

    @property
    def label(self) -> str:
        """The layer's name and class, for messages."""
        return f"'{self.operation.name}' ({type(self.layer).__name__})"

    def inside(self, layer: Any) -> Call:
        """The same call for the layer inside a wrapper that hands its tensors on."""
        return replace(self, layer=layer)

    def layout(self, tensor: Any) -> Layout:
        """The layout of an input tensor."""
        return self.findings.layouts[id(tensor)]

    def on_axis(self, tensor: Any, axis: int) -> Indices:
        """The atoms along an axis of a tensor; what lies along another axis is fixed."""
        axis = from_end(axis, tensor)
        layout = self.layout(tensor)
        if layout.axis == axis:
            return layout.atoms
        self.fix(layout.atoms, f"{self.label} works along another axis than that of the channels")
        return self.findings.atoms.fixed(tensor.shape[axis] or 0, f"{self.label} reads an axis without channels")

    def fix(self, atoms: Indices, reason: str) -> None:
        """These atoms must stay."""
        self.findings.atoms.fix(atoms, reason)

    def unite(self, left: Indices, right: Indices) -> None:
        """These atoms go or stay together, pair by pair."""
        self.findings.atoms.unite(left, right)

    def read(self, role: str, atoms: Indices) -> Indices:
        """Atoms that the layer's weights read; those of a shared layer's calls are united."""
        first = self.findings.roles.setdefault((id(self.layer), role), atoms)
        if first is not atoms:
            self.unite(first, atoms)
        return first

    def make(self, role: str, count: int, what: str = "channels") -> Indices:
        """Atoms that the layer makes, the same in each of its calls."""
        key = (id(self.layer), role)
        if key not in self.findings.roles:
            self.findings.roles[key] = self.findings.atoms.block(self.operation.name, what, count)
        return self.findings.roles[key]

    def cut(self, variable: Any, axes: dict[int, Indices]) -> None:
        """The atoms along axes of a variable; None, a variable that the layer does without, is passed over."""
        if variable is not None:
            rank = len(variable.shape)
            self.findings.slices[id(variable)] = {axis % rank: atoms for axis, atoms in axes.items()}

    def edit(self, change: Edit) -> None:
        """How the layer's settings follow what stays; the wrapper's, where the layer is inside one."""
        inner = self.layer is not self.operation

        def changed(settings: Any, count: Count) -> None:
            change(wrapped_config(settings, "layer") if inner else settings, count)

        self.findings.edits.setdefault(id(self.operation), []).append(changed)

    def set_size(self, key: str, atoms: Indices) -> None:
        """The config's `key` is the number of these atoms that stay."""
        self.edit(lambda config, count: config.update({key: count(atoms)}))

    def fixed_layout(self, tensor: Any, reason: str) -> Layout:
        """A layout of atoms that must stay, for a tensor that is not understood."""
        size = tensor.shape[-1] if len(tensor.shape) > 1 else 0
        return Layout(-1, self.findings.atoms.fixed(size or 0, reason))

    def refuse(self, reason: str) -> list[Layout]:
        """Fix everything that goes in and comes out; a layer with kernels counts as one that makes channels."""
        self.findings.refused.add(id(self.operation))
        for tensor in (*self.tensors, *self.masks):
            self.fix(self.layout(tensor).atoms, reason)
        layouts = [self.fixed_layout(tensor, reason) for tensor in self.outputs]
        if any(len(weight.shape) > 1 for weight in getattr(self.operation, "weights", ())):
            for index, layout in enumerate(layouts):
                size = len(layout.atoms)
                self.unite(layout.atoms, self.make(f"refused output {index} of {size}", size))
        return layouts

    def constants(self) -> list[tuple[int, ...]]:
        """Shapes of the arrays among the arguments; numbers left out."""
        flat = import_keras().tree.flatten([self.arguments.args, self.arguments.kwargs])
        arrays = [item for item in flat if hasattr(item, "shape") and not _is_tensor(item)]
        lists = [np.asarray(item) for item in self.arguments.args if isinstance(item, list | tuple) and _numbers(item)]
        return [tuple(item.shape) for item in (*arrays, *lists) if len(item.shape)]


def wrapped_config(config: dict[str, Any], key: str) -> dict[str, Any]:
    """The config of the layer inside a wrapper's config, made to forget the shape that it was built for."""
    config[key].pop("build_config", None)
    inner: dict[str, Any] = config[key]["config"]
    return inner


def from_end(axis: int, tensor: Any) -> int:
    """An axis of the tensor, counted from the end."""
    return axis if axis < 0 else axis - len(tensor.shape)


def channel_axis(layer: Any, tensor: Any) -> int:
    """Where a convolution's or pooling's data format has the channels, from the end."""
    return -1 if getattr(layer, "data_format", "channels_last") != "channels_first" else 1 - len(tensor.shape)


def _is_tensor(item: object) -> bool:
    return isinstance(item, import_keras().KerasTensor)


def _tensors(items: Sequence[Any]) -> list[Any]:
    return [item for item in items if _is_tensor(item)]


def _numbers(items: Sequence[Any]) -> bool:
    return all(isinstance(item, int | float) for item in items)
