"""What the weights of a convolution or dense layer meet: the patches of its input (im2col), at some positions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: the generated schema's objects, which have no types

import numpy as np

from edgekit.tensors import Array
from edgekit_tflite.layers import kernel_of
from edgekit_tflite.reading import TFLiteOperator, TFLiteTensor, mapped, read_opened

PATCHED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")  # operator types whose kernels meet patches
POSITIONS = 256  # of a sample, at most: neighbouring patches are alike, and other samples say more
_OF_ONE_CHANNEL = 64  # positions of a depthwise layer, whose patches are of few numbers


@dataclass(frozen=True)
class Window:
    """How a kernel moves over one axis of an image, and where its first patch begins."""

    size: int
    stride: int = 1
    dilation: int = 1
    same: bool = False  # padded so that a stride of 1 gives as many outputs as inputs

    def outputs(self, length: int) -> int:
        """How many positions the axis has."""
        return -(-length // self.stride) if self.same else (length - self._reach) // self.stride + 1

    def places(self, length: int, positions: Array) -> Array:
        """The indexes of what is read at the positions, shape (positions, size); outside of the axis is padding."""
        missing = (self.outputs(length) - 1) * self.stride + self._reach - length
        before = max(missing, 0) // 2 if self.same else 0
        places: Array = (positions * self.stride - before)[:, None] + np.arange(self.size) * self.dilation
        return places

    @property
    def _reach(self) -> int:
        return (self.size - 1) * self.dilation + 1


@dataclass(frozen=True)
class Patched:
    """A kernel's use by one operator.

    A kernel is seen as `groups` matrices of shape (outputs, numbers in a patch); a depthwise one has a group for each
    input channel.
    """

    operator: TFLiteOperator
    rows: Window
    columns: Window

    @property
    def depthwise(self) -> bool:
        """Whether each output reads one channel."""
        return self.operator.type == "DEPTHWISE_CONV_2D"

    @property
    def reads(self) -> str:
        """The name of the tensor that the patches are of."""
        return self.operator.inputs[0].name

    @property
    def groups(self) -> int:
        """How many parts of the input channels are read apart from each other."""
        channels, kernel = self.operator.inputs[0].shape[-1], self.shape
        if self.depthwise:
            return channels
        return 1 if self.operator.type == "FULLY_CONNECTED" else channels // kernel[-1]

    @property
    def numbers(self) -> int:
        """In a patch of one group."""
        return self.rows.size * self.columns.size * (1 if self.depthwise else self.shape[-1])

    @property
    def stored(self) -> TFLiteTensor:
        """The kernel, as the file has it."""
        kernel = kernel_of(self.operator)
        assert kernel is not None
        return kernel

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the kernel."""
        return self.stored.shape

    def matrices(self, kernel: Array) -> Array:
        """A kernel of this shape as (groups, outputs, numbers)."""
        if self.depthwise:  # (1, height, width, channels): a multiplier repeats each input channel
            return kernel.reshape(self.numbers, self.groups, -1).transpose(1, 2, 0)
        return kernel.reshape(self.groups, -1, self.numbers)

    def kernel(self, matrices: Array) -> Array:
        """The other way."""
        return (matrices.transpose(2, 0, 1) if self.depthwise else matrices).reshape(self.shape)

    def patches(self, values: Array, generator: np.random.Generator) -> Array:
        """Patches of one sample, of all groups at the same positions: shape (groups, positions, numbers)."""
        if self.operator.type == "FULLY_CONNECTED":
            vectors = values.reshape(-1, self.numbers)
            return vectors[_some(len(vectors), POSITIONS, generator)][None]
        _, height, width, channels = values.shape
        across = self.columns.outputs(width)
        most = _OF_ONE_CHANNEL if self.depthwise else POSITIONS
        places = _some(self.rows.outputs(height) * across, most, generator)
        down = self.rows.places(height, places // across)[:, :, None]
        along = self.columns.places(width, places % across)[:, None, :]
        inside = (down >= 0) & (down < height) & (along >= 0) & (along < width)
        found = values[0, down.clip(0, height - 1), along.clip(0, width - 1)] * inside[..., None]
        apart = found.reshape(len(places), self.rows.size * self.columns.size, self.groups, channels // self.groups)
        return np.ascontiguousarray(apart.transpose(2, 0, 1, 3)).reshape(self.groups, len(places), self.numbers)


def patched(model: Path) -> dict[str, tuple[Patched, ...]]:
    """The uses of each float kernel of PATCHED operators, by its name."""
    from ai_edge_litert import schema_py_generated as schema

    content = schema.ModelT.InitFromPackedBuf(mapped(model), 0)
    stored = [operator for graph in content.subgraphs for operator in graph.operators]
    found: dict[str, tuple[Patched, ...]] = {}
    for operator, raw in zip(read_opened(model).operators, stored, strict=True):
        kernel = kernel_of(operator) if operator.type in PATCHED else None
        if kernel is not None and kernel.dtype == "float32":
            use = Patched(operator, *_windows(kernel.shape, operator.type, raw.builtinOptions))
            found[kernel.name] = (*found.get(kernel.name, ()), use)
    return found


def _windows(shape: tuple[int, ...], kind: str, options: Any) -> tuple[Window, Window]:
    from ai_edge_litert import schema_py_generated as schema

    if kind == "FULLY_CONNECTED":
        return Window(1), Window(1)
    same = options.padding == schema.Padding.SAME
    return (
        Window(shape[1], options.strideH, options.dilationHFactor, same),
        Window(shape[2], options.strideW, options.dilationWFactor, same),
    )


def _some(count: int, most: int, generator: np.random.Generator) -> Array:
    """Indexes of so many at most, spread by chance."""
    return np.arange(count) if count <= most else np.sort(generator.choice(count, most, replace=False))
