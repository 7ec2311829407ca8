"""Inputs that are images, as small PNG files."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np

from edgekit.tensors import Array

SIDE = 96  # pixels of the longer side, at most
_LEAST_SIDE = 4
_CHANNELS = (1, 3, 4)


def pictures(inputs: Mapping[str, Array]) -> list[str | None]:
    """One base64 PNG for each sample of the first input that holds images, else None for each.

    An image is (n, height, width, channels) or (n, channels, height, width) with 1, 3 or 4 channels. Values are shown
    from the least to the largest of all samples, unless they are bytes.
    """
    for array in inputs.values():
        pixels = _pixels(array)
        if pixels is not None:
            return [_png(image) for image in pixels]
    return [None] * len(next(iter(inputs.values())))


def _pixels(array: Array) -> Array | None:
    """uint8, (n, height, width, channels); None for what is no image."""
    if array.ndim != 4:
        return None
    if array.shape[-1] not in _CHANNELS:
        if array.shape[1] not in _CHANNELS:
            return None
        array = np.moveaxis(array, 1, -1)
    if min(array.shape[1:3]) < _LEAST_SIDE or not len(array):
        return None
    if array.dtype == np.uint8:
        return array
    values = array.astype(np.float64)
    least, most = float(values.min()), float(values.max())
    return np.asarray(np.round(255 * (values - least) / ((most - least) or 1.0)), dtype=np.uint8)


def _png(image: Array) -> str:
    from PIL import Image

    made = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    made.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    made.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
