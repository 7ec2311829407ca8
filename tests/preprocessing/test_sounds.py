"""Log-mel features are held against `tf.signal`, to 1e-5 of what they span: both sides round, TensorFlow in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.preprocessing.declared import Audio, LogMel
from edgekit.preprocessing.sounds import prepare

RATE = 16_000


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """One second: a rising tone with noise, then silence; int16."""
    seconds = np.arange(RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * (200 + 1500 * seconds) * seconds)
    noise = 0.01 * np.random.default_rng(0).normal(size=RATE)
    return (np.where(seconds < 0.7, tone + noise, 0) * 32767).astype(np.int16)


@pytest.mark.parametrize(
    "settings",
    [
        LogMel(400, 160, 40, 80.0, 7600.0),
        LogMel(640, 320, 64, 20.0, 8000.0, fft_length=1024, power=2),
        LogMel(401, 160, 20, 125.0, 3800.0, log_offset=1e-3),
    ],
)
def test_log_mel_is_tensorflows(sound: np.ndarray, settings: LogMel) -> None:
    import tensorflow as tf

    wave = tf.constant(sound / np.float32(32768))
    spectra = tf.abs(tf.signal.stft(wave, settings.frame_length, settings.frame_step, settings.fft_length))
    matrix = tf.signal.linear_to_mel_weight_matrix(
        settings.mel_bins, spectra.shape[-1], RATE, settings.lower_hz, settings.upper_hz
    )
    theirs = tf.math.log(spectra**settings.power @ matrix + settings.log_offset).numpy()
    (ours,) = prepare(sound, Audio(RATE, log_mel=settings), where="")
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * (theirs.max() - theirs.min()))


def test_frames_are_tensorflows(sound: np.ndarray) -> None:
    import tensorflow as tf

    for samples in (400, 559, 560, 1000):
        assert LogMel(400, 160, 40, 80.0, 7600.0).frames(samples) == tf.signal.frame(sound[:samples], 400, 160).shape[0]


def test_samples_are_decode_wavs_and_end_in_zeros(sound: np.ndarray) -> None:
    taken = prepare(sound, Audio(RATE, samples=RATE + 5), where="")
    assert taken.shape == (1, RATE + 5)
    np.testing.assert_array_equal(taken[0, :RATE], sound.astype(np.float32) / 32768)
    assert not taken[0, RATE:].any()
    np.testing.assert_array_equal(prepare(sound, Audio(RATE, samples=9), where=""), taken[:, :9])


def test_normalization_by_mel_bin(sound: np.ndarray) -> None:
    mel = LogMel(400, 160, 3, 80.0, 7600.0)
    plain = prepare(sound, Audio(RATE, log_mel=mel), where="")
    normal = prepare(sound, Audio(RATE, log_mel=mel, mean=(1.0, 2.0, 3.0), std=(2.0,)), where="")
    np.testing.assert_allclose(normal, (plain - np.array([1.0, 2.0, 3.0], np.float32)) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "samples", [np.zeros((1, 2, 3), np.float32), np.zeros(0, np.int16), np.zeros(9, np.int32), np.zeros(9, np.uint8)]
)
def test_what_is_no_sound(samples: Any) -> None:
    with pytest.raises(DataError, match=r"here: sound has shape .*, expected \(samples,\) or \(n, samples\) of int16"):
        prepare(samples, Audio(RATE), where="here")


def test_a_sound_shorter_than_a_frame() -> None:
    with pytest.raises(DataError, match="here: 399 samples, expected at least frame_length 400"):
        prepare(np.zeros(399, np.float32), Audio(RATE, log_mel=LogMel(400, 160, 40, 80.0, 7600.0)), where="here")
