"""What is declared of an input: `[preprocessing.NAME.picture]` or `[preprocessing.NAME.audio]`, and in the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from edgekit.errors import ConfigError
from edgekit.tensors import TensorSpec, format_shape

_CHANNELS = {"RGB": 3, "BGR": 3, "grayscale": 1}
# A manifest may come from anywhere, and these decide how much memory is taken.
_MOST_PIXELS, _MOST_SAMPLES, _MOST_BINS, _MOST_MELS = 1 << 14, 1 << 28, 1 << 15, 1 << 10


@dataclass(frozen=True)
class Picture:
    """A picture, in this order: resize, center_crop, color, (x - mean) / std, layout.

    Each is what the Keras layer of that name does with TensorFlow: `Resizing` (half-pixel centres; `fit` is its
    `crop_to_aspect_ratio` and `pad_to_aspect_ratio`), `CenterCrop`, `Rescaling` and `Normalization`.
    """

    resize: tuple[int, int] | None = None  # height, width; None: pictures come in the model's size
    fit: Literal["stretch", "crop", "pad"] = "stretch"  # of another aspect ratio; padded with 0, before mean and std
    interpolation: Literal["bilinear", "nearest", "bicubic"] = "bilinear"
    antialias: bool = False  # when a picture becomes smaller
    round_pixels: bool = False  # after resize, to 0, 1, ... 255: what keras.layers.Resizing does when it is given uint8
    center_crop: tuple[int, int] | None = None  # height, width, after resize
    color: Literal["RGB", "BGR", "grayscale"] = "RGB"  # grayscale: as tf.image.rgb_to_grayscale weighs them, in float
    mean: tuple[float, ...] | None = None  # of pixels from 0 to 255; one number, or one for each channel
    std: tuple[float, ...] | None = None
    layout: Literal["channels_last", "channels_first"] = "channels_last"

    def __post_init__(self) -> None:
        for what, size in (("resize", self.resize), ("center_crop", self.center_crop)):
            if size is not None and not 1 <= min(size) <= max(size) <= _MOST_PIXELS:
                raise ConfigError(
                    f"preprocessing: {what} is {list(size)}, expected [height, width] from 1 to {_MOST_PIXELS}"
                )
        if self.resize and self.center_crop and any(c > r for c, r in zip(self.center_crop, self.resize, strict=True)):
            raise ConfigError(
                f"preprocessing: center_crop {list(self.center_crop)} does not fit into resize {list(self.resize)}"
            )
        if self.interpolation == "bicubic" and not self.antialias:
            raise ConfigError(
                "preprocessing: interpolation 'bicubic' is for antialias = true: TensorFlow's bicubic without it takes "
                "its weights from a table; train with antialias, or take 'bilinear'"
            )
        check_normalization(self.mean, self.std, where="preprocessing", channels=self.channels)

    @property
    def channels(self) -> int:
        """How many the model takes."""
        return _CHANNELS[self.color]

    def sample_shape(self) -> tuple[int | None, ...]:
        """Of what comes out, without the batch."""
        height, width = self.center_crop or self.resize or (None, None)
        if self.layout == "channels_first":
            return (self.channels, height, width)
        return (height, width, self.channels)


@dataclass(frozen=True)
class LogMel:
    """log(mel + log_offset), where mel = |STFT| ** power through HTK's mel filters.

    `tf.signal.stft` with its default window (Hann) and without `pad_end`, `tf.signal.linear_to_mel_weight_matrix`.
    """

    frame_length: int  # samples
    frame_step: int  # samples
    mel_bins: int
    lower_hz: float
    upper_hz: float
    fft_length: int | None = None  # None: the least power of two that holds a frame
    power: Literal[1, 2] = 1  # of the magnitudes
    log_offset: float = 1e-6

    def __post_init__(self) -> None:
        _check_count("frame_length", self.frame_length, _MOST_BINS)
        _check_count("frame_step", self.frame_step, _MOST_SAMPLES)
        _check_count("mel_bins", self.mel_bins, _MOST_MELS)
        _check_count("fft_length", self.fft_length, _MOST_BINS)
        if self.fft_length is not None and self.fft_length < self.frame_length:
            raise ConfigError(
                f"preprocessing: fft_length is {self.fft_length}, expected frame_length {self.frame_length} or more"
            )
        if not 0 <= self.lower_hz < self.upper_hz < float("inf"):
            raise ConfigError(
                f"preprocessing: lower_hz {self.lower_hz:g} and upper_hz {self.upper_hz:g}: expected 0 <= lower < upper"
            )
        if not 0 < self.log_offset < float("inf"):
            raise ConfigError(f"preprocessing: log_offset is {self.log_offset:g}, expected a number above 0")

    @property
    def bins(self) -> int:
        """How many samples an FFT takes."""
        return self.fft_length or 1 << (self.frame_length - 1).bit_length()

    def frames(self, samples: int) -> int:
        """How many whole frames so many samples hold."""
        return max(0, 1 + (samples - self.frame_length) // self.frame_step)


@dataclass(frozen=True)
class Audio:
    """A sound in one channel, from -1 to 1, in this order: samples, log_mel, (x - mean) / std."""

    sample_rate: int  # Hz; a file with another one is refused
    samples: int | None = None  # zeros are added at the end, or the end is cut; None: as they come
    log_mel: LogMel | None = None  # None: the model takes the samples
    mean: tuple[float, ...] | None = None  # one number, or one for each mel bin
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_count("sample_rate", self.sample_rate, _MOST_SAMPLES)
        _check_count("samples", self.samples, _MOST_SAMPLES)
        mel = self.log_mel
        if mel is not None and mel.upper_hz > self.sample_rate / 2:
            raise ConfigError(
                f"preprocessing: upper_hz is {mel.upper_hz:g}, expected at most half the sample_rate {self.sample_rate}"
            )
        if mel is not None and self.samples is not None and mel.frames(self.samples) < 1:
            raise ConfigError(f"preprocessing: frame_length {mel.frame_length} is more than samples {self.samples}")
        check_normalization(self.mean, self.std, where="preprocessing", channels=mel.mel_bins if mel else 1)

    def sample_shape(self) -> tuple[int | None, ...]:
        """Of what comes out, without the batch."""
        if self.log_mel is None:
            return (self.samples,)
        return (None if self.samples is None else self.log_mel.frames(self.samples), self.log_mel.mel_bins)


@dataclass(frozen=True)
class Preprocessing:
    """Of one input: a picture or a sound."""

    picture: Picture | None = None
    audio: Audio | None = None

    def __post_init__(self) -> None:
        if (self.picture is None) == (self.audio is None):
            raise ConfigError("preprocessing: expected a table 'picture' or a table 'audio' of each input, one of them")

    @property
    def kind(self) -> Picture | Audio:
        """The one that is declared."""
        kind = self.audio if self.picture is None else self.picture
        assert kind is not None
        return kind


def check_fits(declared: Preprocessing, spec: TensorSpec, *, where: str) -> None:
    """Raise ConfigError when what comes out cannot be what the input takes; `where` names the table.

    A sound may stand in the input's shape with one channel more: (frames, mel_bins, 1).
    """
    gives = declared.kind.sample_shape()
    takes = spec.shape[1:]
    if declared.audio is not None and len(takes) == len(gives) + 1 and takes[-1] == 1:
        takes = takes[:-1]
    fits = len(takes) == len(gives) and all(None in (a, b) or a == b for a, b in zip(takes, gives, strict=True))
    if not fits:
        raise ConfigError(f"{where}: it gives {format_shape((None, *gives))}, and the model takes {spec}")


def check_normalization(
    mean: Sequence[float] | None, std: Sequence[float] | None, *, where: str, channels: int | None = None
) -> None:
    """Raise ConfigError unless both or none are given, finite, std other than 0, and one number or one a channel."""
    if (mean is None) != (std is None):
        raise ConfigError(f"{where}: mean and std go together: give both or none (mean = [0.0] for none)")
    if not all(map(isfinite, (*(mean or ()), *(std or ())))) or 0 in (std or ()):
        raise ConfigError(
            f"{where}: mean {listed(mean)} and std {listed(std)}: expected finite numbers, std other than 0"
        )
    for what, values in (("mean", mean), ("std", std)):
        if values is not None and channels is not None and len(values) not in (1, channels):
            raise ConfigError(f"{where}: {what} has {len(values)} numbers, expected 1 or {channels}")


def _check_count(what: str, value: int | None, most: int) -> None:
    if value is not None and not 1 <= value <= most:
        raise ConfigError(f"preprocessing: {what} is {value}, expected 1 to {most}")


def listed(values: Sequence[float] | None) -> str:
    """Numbers for a message: "0.485, 0.456"."""
    return ", ".join(f"{value:g}" for value in values or ())
