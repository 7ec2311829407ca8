"""What can be left out of a graph so that the rest fits together: layers and blocks that keep their input's shape."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any  # Any: keras models, nodes and tensors, which have no types

from edgekit.compression.flattening import is_layer, nodes
from edgekit.errors import ModelError, did_you_mean

Block = dict[str, int]  # the operations to bypass -> which of its inputs stands in for each


def bypasses(model: Any, patterns: Sequence[str]) -> Block:
    """The operations that match a pattern and can be bypassed. Raises ModelError on a pattern that matches none."""
    graph = _Graph(model)
    names = [operation.name for operation in model.operations]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ModelError(f"Distill.drop: '{pattern}' matches no layer{did_you_mean(pattern, names)}")
    matching = [node for node in graph.nodes if any(fnmatchcase(node.operation.name, pattern) for pattern in patterns)]
    stand_ins = {node.operation.name: graph.stand_in(node) for node in matching}
    found = {name: index for name, index in stand_ins.items() if index is not None}
    if not found:
        raise ModelError(
            f"Distill.drop: nothing that matches {', '.join(patterns)} can be left out: "
            "each has an output of another shape than its input, or makes an output of the model"
        )
    return found


def repeated_blocks(model: Any, depth: float) -> list[Block]:
    """The repeated blocks to leave out, so that `depth` of each run of alike blocks is kept, evenly spread.

    Blocks are residual ones, which an Add ends, or the normalization that alone reads it; in a model without any,
    chains of a layer with a kernel and what follows it. Raises ModelError when there are none, or none would go.
    """
    graph = _Graph(model)
    found = graph.residual_blocks() or graph.chains()
    runs = [list(run) for _, run in groupby(found, key=lambda each: each[0])]
    if not runs:
        raise ModelError(
            f"Distill.depth: '{model.name}' has no repeated blocks whose output is like their input; "
            "give width, drop or a student instead"
        )
    gone = [block for run in runs for block in _left_out(_units([(kind, block) for _, kind, block in run]), depth)]
    if not gone:
        raise ModelError(f"Distill.depth {depth:g} keeps all {len(found)} repeated blocks of '{model.name}'; lower it")
    return gone


def _units(run: list[tuple[object, Block]]) -> list[Block]:
    """Blocks that alternate (attention, then feed-forward) count as one."""
    kinds = [kind for kind, _ in run]
    period = next(size for size in range(1, len(run) + 1) if kinds[size:] == kinds[: len(kinds) - size])
    period = period if period < len(run) else 1
    return [
        {name: index for _, block in run[start : start + period] for name, index in block.items()}
        for start in range(0, len(run), period)
    ]


def _left_out(units: list[Block], depth: float) -> list[Block]:
    count = max(1, round(len(units) * depth))
    kept = {position * len(units) // count for position in range(count)}
    return [unit for position, unit in enumerate(units) if position not in kept]


class _Graph:
    """Which tensor is computed from which."""

    def __init__(self, model: Any) -> None:
        self.nodes = list(nodes(model))
        self._outputs = {id(tensor) for tensor in model.outputs}
        self._behind: dict[int, set[int]] = {}  # tensor -> the tensors that it is computed from, itself included
        self._uses: dict[int, int] = {}
        self._calls: dict[int, int] = {}
        for node in self.nodes:
            self._calls[id(node.operation)] = self._calls.get(id(node.operation), 0) + 1
            inputs = node.arguments.keras_tensors
            behind = set[int]().union(*({id(tensor)} | self._behind.get(id(tensor), set()) for tensor in inputs))
            for tensor in inputs:
                self._uses[id(tensor)] = self._uses.get(id(tensor), 0) + 1
            for output in node.outputs:
                self._behind[id(output)] = behind | {id(output)}

    def stand_in(self, node: Any) -> int | None:
        """The input that can stand in for the node's output; None when none can."""
        inputs = node.arguments.keras_tensors
        (output, *more) = node.outputs
        if more or id(output) in self._outputs or self._calls[id(node.operation)] > 1:
            return None
        for index, tensor in enumerate(inputs):
            alike = tensor.shape == output.shape and tensor.dtype == output.dtype
            others = (self._behind.get(id(other), {id(other)}) for other in inputs)
            if alike and all(id(tensor) in behind for behind in others):
                return index
        return None

    def residual_blocks(self) -> list[tuple[object, object, Block]]:
        """(shape, kind, block) of each sum of a tensor and what is computed from it by kernels."""
        found: list[tuple[object, object, Block]] = []
        for node in self.nodes:
            if type(node.operation).__name__ != "Add" or len(node.arguments.keras_tensors) < 2:
                continue
            index = self.stand_in(node)
            if index is None:
                continue
            start = node.arguments.keras_tensors[index]
            kind = self._between(start, node)
            if any(has_kernel for _, has_kernel in kind):
                found.append((tuple(start.shape), kind, {node.operation.name: index} | self._norm_behind(node)))
        return found

    def _norm_behind(self, node: Any) -> Block:
        """A normalization that alone reads a sum, as in BERT, belongs to the block that the sum ends."""
        readers = [
            other for other in self.nodes if any(node.outputs[0] is tensor for tensor in other.arguments.keras_tensors)
        ]
        if len(readers) != 1 or id(node.outputs[0]) in self._outputs or self.stand_in(readers[0]) != 0:
            return {}
        operation = readers[0].operation
        return {operation.name: 0} if type(operation).__name__.endswith("Normalization") else {}

    def chains(self) -> list[tuple[object, object, Block]]:
        """(shape, kind, block) of each layer with a kernel and what follows it, where none changes the shape."""
        found: list[tuple[object, object, Block]] = []
        by_input = {id(node.arguments.keras_tensors[0]): node for node in self.nodes if node.arguments.keras_tensors}
        for first in filter(_has_kernel, self.nodes):
            chain, following = [first], by_input.get(id(first.outputs[0]))
            while following is not None and self._goes_on(chain[-1], following):
                chain.append(following)
                following = by_input.get(id(following.outputs[0]))
            if self._is_plain(first):
                kind = tuple(type(node.operation).__name__ for node in chain)
                shape = tuple(first.outputs[0].shape)
                found.append(((shape, kind), kind, {node.operation.name: 0 for node in chain}))
        return found

    def _goes_on(self, node: Any, following: Any) -> bool:
        return self._uses[id(node.outputs[0])] == 1 and self._is_plain(following) and not _has_kernel(following)

    def _is_plain(self, node: Any) -> bool:
        """One tensor in, one of the same shape out."""
        return len(node.arguments.keras_tensors) == 1 and self.stand_in(node) == 0

    def _between(self, start: Any, end: Any) -> tuple[tuple[str, bool], ...]:
        """The operations on the way, by type and whether they have a kernel."""
        behind_end = self._behind[id(end.outputs[0])]
        behind_start = self._behind.get(id(start), {id(start)})
        return tuple(
            (type(node.operation).__name__, _has_kernel(node))
            for node in self.nodes
            if node is not end
            and id(node.outputs[0]) in behind_end - behind_start
            and id(start) in self._behind[id(node.outputs[0])]  # a mask that it also takes is not on the way
        )


def _has_kernel(node: Any) -> bool:
    return is_layer(node.operation) and any(len(weight.shape) > 1 for weight in node.operation.trainable_weights)
