"""Sound samples to what a model takes: framing, STFT and log-mel as `tf.signal` computes them.

Sources: tensorflow/python/ops/signal/spectral_ops.py, window_ops.py and mel_ops.py; the mel scale is that of the HTK
Book (Young et al.), section 5.4.
"""

from __future__ import annotations

import numpy as np

from edgekit.errors import DataError
from edgekit.preprocessing.declared import Audio, LogMel
from edgekit.tensors import Array, format_shape

_FULL_SCALE = np.float32(1 << 15)  # tf.audio.decode_wav


def prepare(samples: Array, audio: Audio, *, where: str) -> Array:
    """One sound (samples,) or a batch (n, samples) -> (n, samples) or (n, frames, mel_bins) float32.

    int16 counts from -32768 to 32767, floats from -1 to 1. Raises DataError on another shape or dtype, or a sound that
    is shorter than a frame.
    """
    sounds = _length(_floats(samples, where), audio.samples)
    if audio.log_mel is not None:
        if audio.log_mel.frames(sounds.shape[1]) < 1:
            raise DataError(
                f"{where}: {sounds.shape[1]} samples, expected at least frame_length {audio.log_mel.frame_length}"
            )
        sounds = log_mel(sounds, audio.log_mel, sample_rate=audio.sample_rate)
    if audio.mean is not None and audio.std is not None:
        sounds = (sounds - np.asarray(audio.mean, np.float32)) / np.asarray(audio.std, np.float32)
    return sounds


def log_mel(sounds: Array, settings: LogMel, *, sample_rate: int) -> Array:
    """Sounds (n, samples) float32 -> (n, frames, mel_bins) float32.

    Computed in float64, while `tf.signal` works in float32: what that leaves is below 1e-5 of the features' span.
    """
    frames = np.lib.stride_tricks.sliding_window_view(sounds, settings.frame_length, axis=1)[:, :: settings.frame_step]
    spectra = np.abs(np.fft.rfft(frames.astype(np.float64) * _hann(settings.frame_length), settings.bins))
    energies = spectra**settings.power @ _mel_matrix(settings, sample_rate)
    return np.log(energies + settings.log_offset).astype(np.float32)


def _floats(samples: Array, where: str) -> Array:
    sounds = samples[None] if samples.ndim == 1 else samples
    if sounds.ndim != 2 or 0 in sounds.shape or not (sounds.dtype == np.int16 or sounds.dtype.kind == "f"):
        raise DataError(
            f"{where}: sound has shape {format_shape(samples.shape)} {samples.dtype}, expected (samples,) or "
            "(n, samples) of int16, or of floats from -1 to 1"
        )
    floats = sounds.astype(np.float32)
    return floats / _FULL_SCALE if sounds.dtype == np.int16 else floats


def _length(sounds: Array, samples: int | None) -> Array:
    if samples is None:
        return sounds
    missing = max(0, samples - sounds.shape[1])
    return np.pad(sounds[:, :samples], ((0, 0), (0, missing)))


def _hann(length: int) -> Array:
    """`tf.signal.hann_window`, which is periodic for an even length alone."""
    if length == 1:
        return np.ones(1)
    period = length if length % 2 == 0 else length - 1
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / period)


def _mel_matrix(settings: LogMel, sample_rate: int) -> Array:
    """(bins / 2 + 1, mel_bins): triangles that are straight on the mel scale; the constant part counts nowhere."""
    hertz = np.linspace(0.0, sample_rate / 2, settings.bins // 2 + 1)[1:]
    edges = np.linspace(_mel(settings.lower_hz), _mel(settings.upper_hz), settings.mel_bins + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    mel = _mel(hertz)[:, None]
    triangles = np.maximum(0, np.minimum((mel - low) / (centre - low), (high - mel) / (high - centre)))
    return np.pad(triangles, ((1, 0), (0, 0)))


def _mel(hertz: Array | float) -> Array:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)
