"""Raw pixels to what a model takes."""

from __future__ import annotations

import numpy as np

from edgekit.errors import DataError
from edgekit.preprocessing.declared import Picture
from edgekit.preprocessing.resizing import resize
from edgekit.tensors import Array, format_shape

_GRAY = np.array([0.2989, 0.5870, 0.1140], np.float32)  # tf.image.rgb_to_grayscale
_CHANNELS = (1, 3, 4)


def prepare(pixels: Array, picture: Picture, *, where: str) -> Array:
    """One picture (height, width[, channels]) or a batch (n, height, width, channels) -> (n, …) float32.

    Pixels go from 0 to 255 in any number type, in 1, 3 (red first) or 4 channels, of which the fourth, the opacity, is
    left out as decoders do. Raises DataError on another shape, or a picture that is smaller than the crop.
    """
    pictures = _batch(pixels, where)
    if picture.resize is not None:
        pictures = _fitted(pictures, picture.resize, picture.fit)
        pictures = resize(
            pictures, picture.resize, interpolation=picture.interpolation, antialias=picture.antialias
        )  # fmt: skip
        if picture.round_pixels:
            pictures = np.clip(np.rint(pictures), 0, 255)
    if picture.center_crop is not None:
        pictures = _cropped(pictures, picture.center_crop, where)
    colored = _colored(pictures.astype(np.float32), picture.color)
    if picture.mean is not None and picture.std is not None:
        colored = (colored - np.asarray(picture.mean, np.float32)) / np.asarray(picture.std, np.float32)
    return np.ascontiguousarray(colored.transpose(0, 3, 1, 2) if picture.layout == "channels_first" else colored)


def _batch(pixels: Array, where: str) -> Array:
    pictures = pixels
    if pictures.ndim == 2:
        pictures = pictures[:, :, None]
    if pictures.ndim == 3:
        pictures = pictures[None]
    if (
        pictures.ndim != 4
        or pictures.shape[-1] not in _CHANNELS
        or pictures.dtype.kind not in "uif"
        or 0 in pictures.shape
    ):
        raise DataError(
            f"{where}: pixels have shape {format_shape(pixels.shape)} {pixels.dtype}, expected numbers of "
            "(height, width), (height, width, 1, 3 or 4), or a batch (n, height, width, 1, 3 or 4)"
        )
    return pictures[..., :3]


def _fitted(pictures: Array, size: tuple[int, int], fit: str) -> Array:
    """Cropped or padded around the centre to the aspect ratio of `size`, in the words of keras.layers.Resizing."""
    height, width = pictures.shape[1:3]
    of_width, of_height = int(np.float32(width * size[0]) / size[1]), int(np.float32(height * size[1]) / size[0])
    if fit == "crop":
        crop = (max(min(height, of_width), 1), max(min(width, of_height), 1))
        top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
        return pictures[:, top : top + crop[0], left : left + crop[1]]
    if fit == "pad":
        top, left = (max(height, of_width) - height) // 2, (max(width, of_height) - width) // 2
        return np.pad(pictures, ((0, 0), (top, top), (left, left), (0, 0)))
    return pictures


def _cropped(pictures: Array, size: tuple[int, int], where: str) -> Array:
    height, width = pictures.shape[1:3]
    if height < size[0] or width < size[1]:
        raise DataError(
            f"{where}: the picture is {height} × {width}, expected at least {size[0]} × {size[1]} for its center_crop; "
            "give a larger one, or declare resize"
        )
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return pictures[:, top : top + size[0], left : left + size[1]]


def _colored(pictures: Array, color: str) -> Array:
    """float32 (n, height, width, 1 or 3) in the channels of `color`."""
    if color == "grayscale":
        return pictures if pictures.shape[-1] == 1 else (pictures @ _GRAY)[..., None]
    if pictures.shape[-1] == 1:
        return np.repeat(pictures, 3, axis=-1)
    return pictures[..., ::-1] if color == "BGR" else pictures
