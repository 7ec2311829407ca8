"""`edgekit run` on raw samples and pixels, and the classes that it prints."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import Bundle, write_bundle
from edgekit.runtime.arrays import read_npz, write_npz
from tests.tiny_models import IMAGES, SOUNDS, expected, pack

Run = Callable[..., Any]
SAMPLES = np.array([16384, -8192, 4096], "<i2")
PADDED = np.array([[0.5, -0.25, 0.125, 0.0]], np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, said to take four samples of a sound at 8 kHz."""
    return pack(tmp_path_factory.mktemp("raw"), inputs=SOUNDS)


@pytest.fixture
def word(tmp_path: Path) -> Path:
    with wave.open(str(tmp_path / "word.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(SAMPLES.tobytes())
    return tmp_path / "word.wav"


@pytest.mark.parametrize("device", [(), ("--device", "local:")])
def test_a_sound_goes_in_and_classes_come_out(edgekit: Run, bundle: Path, word: Path, device: tuple[str, ...]) -> None:
    argv = ("run", bundle, "--input", word, "--variant", "onnx-fp32", *device)
    ended = edgekit(*argv)
    assert ended.exit_code == 0, ended.stderr
    order = np.argsort(-expected(PADDED)[0])
    rows = [line.split() for line in ended.stdout.splitlines()]
    assert "onnx-fp32 on onnxruntime" in ended.stdout.splitlines()[0]
    assert rows[1] == ["class", "score"]
    assert [int(row[0]) for row in rows[3:]] == order.tolist()
    said = edgekit(*argv, "--top", 2, "--json").json
    assert said["output"] is None
    ((first, second),) = said["top"]
    assert (first["index"], first["label"], second["index"]) == (order[0], None, order[1])
    np.testing.assert_allclose(first["score"], expected(PADDED)[0, order[0]], atol=1e-6)


def test_labels_are_named(edgekit: Run, bundle: Path, word: Path, tmp_path: Path) -> None:
    with Bundle.open(bundle) as opened:
        manifest = replace(opened.manifest, labels=("up", "down", "stop"))
        files = {name: tmp_path / name for name in opened.packed_bytes()}
        for name, path in files.items():
            path.write_bytes(opened.read(name))
    write_bundle(tmp_path / "labelled.edgekit", manifest, files)
    ended = edgekit("run", tmp_path / "labelled.edgekit", "--input", word, "--top", 1)
    lines = ended.stdout.splitlines()
    assert lines[1].split() == ["class", "label", "score"]
    best = int(expected(PADDED)[0].argmax())
    assert lines[3].split()[:2] == [str(best), manifest.labels[best] if manifest.labels else ""]


def test_raw_arrays_are_prepared_when_told_so(edgekit: Run, bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", SAMPLES)
    write_npz(tmp_path / "x.npz", {"image": SAMPLES[None]})
    for name in ("x.npy", "x.npz"):
        argv = ("run", bundle, "--input", tmp_path / name, "--variant", "onnx-fp32", "-o", tmp_path / "y.npz")
        ended = edgekit(*argv, "--preprocess")
        assert ended.exit_code == 0, ended.stderr
        assert ended.stdout.startswith(str(tmp_path / "y.npz"))
        assert len(ended.stdout.splitlines()) == 1
        np.testing.assert_allclose(read_npz(tmp_path / "y.npz")["scores"], expected(PADDED), atol=1e-6)
        refused = edgekit(*argv)
        assert refused.exit_code == 2
        assert "int16, expected (batch, 4) float32" in refused.stderr


def test_an_npy_may_hold_the_models_own_input(edgekit: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    said = edgekit("run", tiny_bundle, "--input", tmp_path / "x.npy", "--variant", "onnx-fp32", "--json").json
    assert [sample[0]["index"] for sample in said["top"]] == expected(IMAGES).argmax(axis=1).tolist()


def test_what_cannot_be_taken(edgekit: Run, bundle: Path, tiny_bundle: Path, word: Path, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"no array")
    np.savez(tmp_path / "zip.npz", x=IMAGES)
    (tmp_path / "zip.npz").rename(tmp_path / "zip.npy")
    np.save(tmp_path / "object.npy", np.array([None]), allow_pickle=True)
    np.save(tmp_path / "good.npy", IMAGES)
    for where, name, more, message in (
        (tiny_bundle, word, (), "word.wav: the bundle declares no preprocessing of 'image', so --input takes an .npz"),
        (tiny_bundle, tmp_path / "good.npy", ("--preprocess",), "good.npy: no preprocessing is declared"),
        (bundle, tmp_path / "cat.jpg", (), "cat.jpg: the input takes a sound, expected a .wav file"),
        (bundle, tmp_path / "none.wav", (), "none.wav: cannot be read: No such file or directory"),
        (bundle, tmp_path / "none.npy", (), "none.npy: cannot be read: No such file or directory"),
        (bundle, tmp_path / "x.npy", (), "x.npy: not an .npy of numbers"),
        (bundle, tmp_path / "object.npy", (), "object.npy: not an .npy of numbers"),
        (bundle, tmp_path / "zip.npy", (), "zip.npy: not an .npy but an archive: call it .npz"),
        (bundle, word, ("--top", "0"), "--top is 0, expected 1 or more"),
    ):
        ended = edgekit("run", where, "--input", name, *more)
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert message in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
