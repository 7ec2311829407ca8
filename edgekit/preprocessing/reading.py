"""A picture or a sound from a file: raw pixels, or samples in one channel."""

from __future__ import annotations

import warnings
import wave
from pathlib import Path

import numpy as np

from edgekit.errors import DataError, EngineError
from edgekit.preprocessing.declared import Audio, Preprocessing
from edgekit.tensors import Array

SOUND = ".wav"
_GRAY = ("1", "L", "LA", "La")  # modes of 8 bits a channel
_COLORED = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")


def read_raw(path: Path, declared: Preprocessing) -> Array:
    """Pixels (height, width, 1 or 3) uint8 of a picture, or samples (n,) float32 from -1 to 1 of a `.wav`.

    Several channels of a sound are averaged. A photo that its camera marks as turned (EXIF) is turned upright, which
    `tf.io.decode_jpeg` does not do. Raises DataError when the file cannot be read or is not of the declared kind,
    EngineError when a picture needs Pillow and it is missing.
    """
    if declared.audio is not None:
        if path.suffix.lower() != SOUND:
            raise DataError(f"{path}: the input takes a sound, expected a {SOUND} file")
        return read_wav(path, declared.audio)
    if path.suffix.lower() == SOUND:
        raise DataError(f"{path}: a sound, and the input takes a picture")
    return read_picture(path)


def read_wav(path: Path, audio: Audio) -> Array:
    """Samples (n,) float32 of PCM with 8, 16, 24 or 32 bits. Raises DataError."""
    try:
        with wave.open(str(path), "rb") as sound:
            rate, channels, width = sound.getframerate(), sound.getnchannels(), sound.getsampwidth()
            content = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError) as problem:
        reason = str(problem) or "it ends too early"
        raise DataError(f"{path}: not a PCM .wav file: {reason}") from problem
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    if rate != audio.sample_rate:
        raise DataError(
            f"{path}: {rate} samples a second, expected {audio.sample_rate}: resample it, for example with "
            f"ffmpeg -i {path.name} -ar {audio.sample_rate} resampled.wav"
        )
    whole = len(content) // (width * channels) * width * channels
    if not whole:
        raise DataError(f"{path}: holds no sample")
    samples: Array = _pcm(content[:whole], width).reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return samples


def _pcm(content: bytes, width: int) -> Array:
    """Little-endian PCM as float32 from -1 to 1; 8 bits are unsigned."""
    if width == 1:
        return (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:  # the upper three bytes of 32 bits
        padded = np.zeros((len(content) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return (padded.view("<i4")[:, 0] / np.float64(1 << 31)).astype(np.float32)
    return (np.frombuffer(content, f"<i{width}") / np.float64(1 << (8 * width - 1))).astype(np.float32)


def read_picture(path: Path) -> Array:
    """Pixels (height, width, 1 or 3) uint8. Raises DataError, and EngineError when Pillow is missing."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as problem:
        raise EngineError(
            f'{path.name}: decoding pictures needs Pillow: pip install "edgekit[images]", or give the pixels as .npy'
        ) from problem
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if picture.mode not in (*_GRAY, *_COLORED):
                raise DataError(f"{path}: its pixels are '{picture.mode}', expected 8 bits a channel: convert it")
            upright = ImageOps.exif_transpose(picture)
            return _pixels(upright.convert("L" if upright.mode in _GRAY else "RGB"))
    except UnidentifiedImageError as problem:
        raise DataError(f"{path}: not a picture that Pillow knows") from problem
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as problem:
        raise DataError(f"{path}: too many pixels ({problem}): make it smaller") from problem
    except (OSError, SyntaxError, ValueError) as problem:  # what Pillow's decoders raise on damaged files
        raise DataError(f"{path}: cannot be read: {getattr(problem, 'strerror', None) or problem}") from problem


def _pixels(picture: object) -> Array:
    pixels = np.asarray(picture)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
