"""Which kernels of a model are rounded, and each one's grid."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any  # Any: keras models, layers and variables, which have no types

import numpy as np

from edgekit.compression.grids import FLOAT_BITS, Grid
from edgekit.compression.kernels import Kernel, kernels
from edgekit.compression.operations import treatment
from edgekit.errors import ModelError
from edgekit.loading import import_keras


def quantizable_kernels(model: Any) -> list[Kernel]:
    """The kernels, frozen ones too, of the layers that the simulation knows."""
    known = {
        id(variable)
        for operation in model.operations
        if treatment(operation).wants_integers
        for variable in getattr(operation, "variables", ())
    }
    return [kernel for kernel in (*kernels(model), *kernels(model, frozen=True)) if id(kernel.variable) in known]


class KernelRounding:
    """The grid of each kernel of a model."""

    def __init__(self, model: Any, bits: Mapping[str, int], shared: Collection[str], *, on_grid: bool) -> None:
        """As for `Simulation`. Raises ModelError on bits of a kernel that is not there."""
        self.kernels = quantizable_kernels(model)
        self.on_grid = on_grid
        self._bits, self._shared = bits, shared
        self._by_variable = {id(kernel.variable): kernel for kernel in self.kernels}
        unknown = [name for name in bits if name not in {kernel.name for kernel in self.kernels}]
        if unknown:
            raise ModelError(f"bits of '{unknown[0]}': the model has no such kernel; compress it again")

    def grid(self, kernel: Kernel) -> Grid | None:
        """None when the kernel stays float."""
        bits = self._bits.get(kernel.name, 8)
        if bits == FLOAT_BITS:
            return None
        return Grid(bits, 0 if kernel.name in self._shared else channel_axes(kernel))

    def of(self, operation: Any) -> list[Kernel]:
        """The kernels of an operation, those of the layers inside it too."""
        own = getattr(operation, "variables", ())
        return [self._by_variable[id(variable)] for variable in own if id(variable) in self._by_variable]

    def rounding(self, variable: Any) -> Any:
        """What rounds a kernel inside a graph. Raises ModelError when it should lie on its grid and does not."""
        from edgekit.compression.simulation_layers import Rounding, not_rounded

        kernel = self._by_variable[id(variable)]
        grid = self.grid(kernel)
        if grid is None:
            return not_rounded
        if not self.on_grid:
            return Rounding(grid)
        scales = grid.scales(np.asarray(kernel.variable))
        if scales is None:
            raise ModelError(
                f"the kernel of layer '{kernel.name}' is not on its {grid.bits}-bit grid: it was changed after "
                "QuantizeAware; compress the model again"
            )
        return Rounding(grid, scales)


def channel_axes(kernel: Kernel) -> int:
    """How many trailing axes of a kernel have a scale for each index: the output channels of convolutions.

    Elsewhere the converters keep one scale: Dense kernels and those of transposed convolutions are transposed on their
    way, and rows of an embedding are outputs themselves.
    """
    layers = import_keras().layers
    plain = (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
    if isinstance(kernel.layer, (*plain, layers.SeparableConv1D, layers.SeparableConv2D)):
        return len(kernel.outputs)
    return 0
