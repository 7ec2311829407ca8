"""Tensor specifications and affine quantization: what an array must look like at a model's border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any  # Any: numpy's own name for "an array of any dtype"

import numpy as np

from edgekit.errors import DataError

Array = np.ndarray[Any, np.dtype[Any]]  # numpy.typing, which calls it NDArray, takes long to import


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (with the batch dimension; None is dynamic) and numpy dtype name of one model input or output."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        return f"'{self.name}' {format_shape(self.shape)} {self.dtype}"

    @property
    def in_steps(self) -> TensorSpec:
        """The same of whole sequences: (samples, steps, …), both of any number."""
        return TensorSpec(self.name, (None, None, *self.shape[1:]), self.dtype)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """True when `shape` has this rank and equals every fixed dimension."""
        return len(shape) == len(self.shape) and all(
            want is None or want == got for want, got in zip(self.shape, shape, strict=True)
        )

    def check(self, array: Array, *, where: str) -> None:
        """Raise DataError unless `array` has this shape and dtype."""
        if not self.accepts(array.shape) or array.dtype != self.dtype:
            remedy = f"; convert it with .astype('{self.dtype}')" if self.accepts(array.shape) else ""
            raise DataError(
                f"{where}: '{self.name}' has shape {format_shape(array.shape)} {array.dtype}, "
                f"expected {format_shape(self.shape)} {self.dtype}{remedy}"
            )


@dataclass(frozen=True)
class Quantization:
    """Per-tensor affine quantization: real = scale * (stored - zero_point).

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", section 2.1.
    """

    scale: float
    zero_point: int

    def quantize(self, array: Array, dtype: str) -> Array:
        """Float array -> integer array of `dtype`, rounded half to even and saturated."""
        limits = np.iinfo(dtype)
        stored = np.rint(array * np.float32(1.0 / self.scale))
        stored += self.zero_point
        return np.clip(stored, limits.min, limits.max).astype(dtype)

    def dequantize(self, array: Array) -> Array:
        """Integer array -> float32 array."""
        return (array.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


def class_count(outputs: Sequence[TensorSpec]) -> int | None:
    """Number of class scores that the only output of a model holds; None when it holds none."""
    size = outputs[0].shape[-1] if len(outputs) == 1 else None
    return None if size is None or size < 2 else size


def check_finite(name: str, array: Array, *, where: str) -> None:
    """Raise DataError when a float array of shape (n, ...) has NaN or infinity, with the first sample that has."""
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DataError(f"{where}: '{name}' holds NaN or infinity, first in sample {row}; remove or repair it")


def format_shape(shape: tuple[int | None, ...]) -> str:
    """`(None, 28, 28, 1)` as `(batch, 28, 28, 1)`; another dynamic dimension shows as `?`."""
    words = [
        "batch" if index == 0 and size is None else "?" if size is None else str(size)
        for index, size in enumerate(shape)
    ]
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"
