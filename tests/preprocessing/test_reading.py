from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import DataError, EngineError
from edgekit.preprocessing.declared import Audio, Picture, Preprocessing
from edgekit.preprocessing.reading import read_raw

PICTURE, SOUND = Preprocessing(Picture()), Preprocessing(audio=Audio(8000))
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def write_wav(path: Path, content: bytes, *, width: int = 2, channels: int = 1, rate: int = 8000) -> Path:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(content)
    return path


def pcm(samples: np.ndarray, width: int) -> bytes:
    counts = np.rint(samples * (1 << (8 * width - 1))).astype("<i8")
    if width == 1:
        return (counts + 128).astype(np.uint8).tobytes()
    return counts.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_pcm_of_every_width(tmp_path: Path, width: int) -> None:
    samples = np.array([0.0, 0.5, -0.25, -1.0, 0.125])
    path = write_wav(tmp_path / "s.wav", pcm(samples, width), width=width)
    taken = read_raw(path, SOUND)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, samples)


def test_16_bits_are_what_tensorflow_decodes(tmp_path: Path) -> None:
    import tensorflow as tf

    counts = np.random.default_rng(1).integers(-32768, 32768, 100).astype("<i2")
    path = write_wav(tmp_path / "s.wav", counts.tobytes())
    theirs = tf.audio.decode_wav(path.read_bytes()).audio.numpy()[:, 0]
    np.testing.assert_array_equal(read_raw(path, SOUND), theirs)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "s.wav", pcm(np.array([0.5, 0.25, -0.5, 0.5]), 2), channels=2)
    np.testing.assert_array_equal(read_raw(path, SOUND), [0.375, 0.0])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_pixels_of_lossless_files(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    path = tmp_path / f"p.{suffix}"
    Image.fromarray(PIXELS).save(path)
    np.testing.assert_array_equal(read_raw(path, PICTURE), PIXELS)
    Image.fromarray(PIXELS[..., 0]).save(path)
    np.testing.assert_array_equal(read_raw(path, PICTURE), PIXELS[..., :1])


def test_palettes_and_opacity_become_colors(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]])).save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_raw(tmp_path / "p.png", PICTURE), PIXELS)
    one = Image.new("P", (2, 1))
    one.putpalette([10, 20, 30])
    one.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_raw(tmp_path / "p.png", PICTURE), np.full((1, 2, 3), [10, 20, 30]))


def test_a_turned_photo_is_upright(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    Image.fromarray(PIXELS).save(tmp_path / "p.png", exif=exif)
    np.testing.assert_array_equal(read_raw(tmp_path / "p.png", PICTURE), np.rot90(PIXELS, -1))


@pytest.mark.parametrize(
    ("name", "content", "declared", "message"),
    [
        ("p.jpg", b"no picture", PICTURE, "p.jpg: not a picture that Pillow knows"),
        ("p.wav", b"", PICTURE, "p.wav: a sound, and the input takes a picture"),
        ("s.mp3", b"", SOUND, "s.mp3: the input takes a sound, expected a .wav file"),
        ("s.wav", b"RIFFxxxx", SOUND, "s.wav: not a PCM .wav file"),
        ("s.wav", b"", SOUND, "s.wav: not a PCM .wav file: it ends too early"),
    ],
)
def test_files_of_another_kind(
    tmp_path: Path, name: str, content: bytes, declared: Preprocessing, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_raw(tmp_path / name, declared)
    assert message in str(caught.value)


def test_files_that_cannot_be_taken(tmp_path: Path) -> None:
    from PIL import Image

    for path, declared in ((tmp_path / "none.png", PICTURE), (tmp_path / "none.wav", SOUND)):
        with pytest.raises(DataError, match=f"{path.name}: cannot be read: No such file"):
            read_raw(path, declared)
    with pytest.raises(DataError, match="16000 samples a second, expected 8000: resample it"):
        read_raw(write_wav(tmp_path / "fast.wav", b"\0\0", rate=16000), SOUND)
    with pytest.raises(DataError, match="holds no sample"):
        read_raw(write_wav(tmp_path / "empty.wav", b""), SOUND)
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep.png: its pixels are 'I;16', expected 8 bits a channel"):
        read_raw(tmp_path / "deep.png", PICTURE)
    Image.fromarray(PIXELS).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:80])
    with pytest.raises(DataError, match=r"cut.png: cannot be read: "):
        read_raw(tmp_path / "cut.png", PICTURE)


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    Image.fromarray(PIXELS).save(tmp_path / "p.png")
    for most in (20, 2):  # Pillow warns from the one on, and refuses from twice that on
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(DataError, match=r"p\.png: too many pixels"):
            read_raw(tmp_path / "p.png", PICTURE)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(EngineError, match=r'p.png: decoding pictures needs Pillow: pip install "edgekit\[images\]"'):
        read_raw(tmp_path / "p.png", PICTURE)
