"""GPTQ for litert-quantizer, whose own is for dense layers of float activations: codes for the scales that it chose."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any  # Any: the quantizer's parameters, which have no types

import numpy as np

from edgekit.ranges import Feed
from edgekit.tensors import Array
from edgekit_tflite.layers import kernel_of
from edgekit_tflite.moments import LARGEST, second_moments
from edgekit_tflite.patches import Patched, patched
from edgekit_tflite.rounding import round_rows
from edgekit_tflite.settling import Settled

_Key = tuple[str, int, int]  # kernel name, bits, block size: what its scales depend on


class KernelRounding:
    """The kernels of one float file whose operators are settled for "gptq".

    They are rounded once: activations' ranges, of which there may be several, do not count.
    """

    def __init__(self, model: Path, settled: Settled, feeds: Sequence[Feed]) -> None:
        chosen = [named for named, setting in settled if setting.algorithm == "gptq"]
        self._labels = {kernel.name: named.label for named in chosen if (kernel := kernel_of(named.operator))}
        found = patched(model)
        self._stored = Counter(_place(uses) for uses in found.values())
        self._uses = {name: uses for name, uses in found.items() if name in self._labels}
        self._model, self._feeds = model, feeds
        self._codes: dict[_Key, Array] = {}

    def apply(self, parameters: Mapping[str, Any]) -> None:
        """Put codes into litert-quantizer's parameters, by tensor name, in the place of those that it rounded."""
        self._codes = self._codes or self._round(parameters)
        made: dict[_Key, Any] = {}  # one for each kernel, which the quantizer then stores once
        for name in self._uses:
            for index, consumer in enumerate(parameters[name].consumers):
                key = _key(name, consumer.parameters)
                if key in self._codes:
                    made.setdefault(key, replace(consumer.parameters, quantized_data=self._codes[key]))
                    parameters[name].consumers[index] = replace(consumer, parameters=made[key])

    def notes(self) -> Iterator[str]:
        """Whose weights were rounded to nearest all the same. After `apply`."""
        done = {name for name, _, _ in self._codes}
        left: defaultdict[str, list[str]] = defaultdict(list)
        for name, uses in self._uses.items():
            if name not in done:
                left[_obstacle(uses, self._stored) or "inputs overflow"].append(self._labels[name])
        for reason, labels in left.items():
            yield f"gptq left out in {', '.join(labels)} ({reason}): rounded to nearest"

    def _round(self, parameters: Mapping[str, Any]) -> dict[_Key, Array]:
        found: dict[_Key, Array] = {}
        able = {name: uses for name, uses in self._uses.items() if _obstacle(uses, self._stored) is None}
        for name, moments in second_moments(self._model, able, self._feeds):
            use = able[name][0]
            kernel = use.stored
            weights = kernel.data.view(np.float32).reshape(kernel.shape)
            for consumer in parameters[name].consumers:
                grid, key = consumer.parameters, _key(name, consumer.parameters)
                if key is not None and key not in found:
                    steps = np.broadcast_to(_steps(grid, kernel.shape), kernel.shape)
                    codes = round_rows(
                        use.matrices(weights), use.matrices(steps), moments, 2 ** (grid.num_bits - 1) - 1
                    )
                    found[key] = use.kernel(codes).astype(grid.quantized_data.dtype)
        return found


def _obstacle(uses: Sequence[Patched], stored: Mapping[int, int]) -> str | None:
    """Why a kernel cannot be rounded. `stored` counts the kernels that lie at a place of the file."""
    if uses[0].numbers > LARGEST:
        return f"each output has more than {LARGEST:,} weights"
    return "its weights are another layer's too" if stored[_place(uses)] > 1 else None


def _place(uses: Sequence[Patched]) -> int:
    return int(uses[0].stored.data.ctypes.data)


def _key(name: str, grid: Any) -> _Key | None:
    """None where a consumer takes no integer weights."""
    return None if getattr(grid, "scale", None) is None else (name, grid.num_bits, grid.block_size)


def _steps(grid: Any, shape: tuple[int, ...]) -> Array:
    """What a step of each weight is; broadcasts to the kernel's shape."""
    scales = np.asarray(grid.scale, np.float64)
    if grid.block_size:  # of a dense kernel, (outputs, inputs)
        return np.repeat(scales.reshape(shape[0], -1), grid.block_size, axis=1)
    axes = [1] * len(shape)
    if grid.quantized_dimension is not None:
        axes[grid.quantized_dimension] = -1
    return scales.reshape(axes)
