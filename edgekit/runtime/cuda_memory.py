"""Memory of one tensor on the host and on the GPU, and arrays that are on the GPU already."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any  # Any: what another library's array says of itself

import numpy as np

from edgekit.errors import DataError
from edgekit.runtime.cuda import CudaApi
from edgekit.tensors import Array

_INTERFACE = "__cuda_array_interface__"


@dataclass(frozen=True)
class DeviceArray:
    """An array of another library (cupy, torch, numba) in the GPU's memory, C-contiguous."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: int | None  # to wait for, as its maker says
    owner: object  # keeps the memory alive

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> DeviceArray:
        start, stop, _ = rows.indices(len(self))
        offset = start * math.prod(self.shape[1:]) * self.dtype.itemsize
        return replace(self, pointer=self.pointer + offset, shape=(stop - start, *self.shape[1:]))


def on_device(array: object) -> bool:
    """True for an array in the GPU's memory."""
    return not isinstance(array, np.ndarray) and hasattr(array, _INTERFACE)


def device_array(name: str, array: object) -> DeviceArray:
    """What `__cuda_array_interface__` says (versions 2 and 3). Raises DataError unless it is C-contiguous.

    Source: Numba's documentation, "CUDA Array Interface (Version 3)".
    """
    says = getattr(array, _INTERFACE)
    shape, dtype = tuple(says["shape"]), np.dtype(says["typestr"])
    strides = says.get("strides")
    if strides is not None and tuple(strides) != _contiguous(shape, dtype.itemsize):
        raise DataError(f"'{name}' is not contiguous on the GPU (strides {tuple(strides)}); make a contiguous copy")
    if says.get("mask") is not None:
        raise DataError(f"'{name}' is a masked array on the GPU; give it without its mask")
    return DeviceArray(int(says["data"][0]), shape, dtype, says.get("stream"), array)


def _contiguous(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


class Buffer:
    """Pinned memory of the host and memory of the GPU for one tensor: kept between runs, larger when it must be."""

    def __init__(self, cuda: CudaApi) -> None:
        self.pinned = self.device = 0
        self._cuda = cuda
        self._capacity = 0

    def reserve(self, size: int) -> None:
        """Room for `size` bytes. Raises EngineError; nothing is held then."""
        if size <= self._capacity:
            return
        self.close()
        try:
            self.device = self._cuda.allocate(size)
            self.pinned = self._cuda.allocate_pinned(size)
        except BaseException:
            self.close()
            raise
        self._capacity = size

    def view(self, shape: tuple[int, ...], dtype: str) -> Array:
        """The pinned memory as an array; good until the next `reserve`."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        return np.ndarray(shape, dtype, buffer=memoryview((ctypes.c_byte * size).from_address(self.pinned)))

    def close(self) -> None:
        """Give both back, the second even when the first fails."""
        with ExitStack() as stack:
            if self.device:
                stack.callback(self._cuda.free, self.device)
            if self.pinned:
                stack.callback(self._cuda.free_pinned, self.pinned)
            self.pinned = self.device = self._capacity = 0
