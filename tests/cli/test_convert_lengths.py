"""Models that leave the length of a sequence open, converted for one length or for several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WORDS, WIDTH, LENGTHS = 2000, 16, (12, 5)  # the embedding is most of the file
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    taken = keras.Input((None,), dtype="int32", name="a_tokens")
    words = layers.Embedding(WORDS, WIDTH, name="embedding")(taken)
    words = layers.Dense(16, activation="relu", name="hidden")(words)
    outputs = layers.Dense(3, name="y")(layers.GlobalAveragePooling1D(name="pool")(words))
    path = tmp_path_factory.mktemp("reader") / "reader.keras"
    keras.Model(taken, outputs, name="reader").save(path)
    return path


def sample(length: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(length).integers(0, WORDS, (count, length)).astype(np.int32)


def check(path: Path, model: Path, *, least_snr_db: float) -> None:
    """Each signature against Keras at its length."""
    import keras
    from ai_edge_litert.interpreter import Interpreter

    interpreter, whole = Interpreter(str(path)), keras.saving.load_model(model)
    for key, length in zip(("fixed", f"a_tokens_{LENGTHS[1]}"), LENGTHS, strict=True):
        run = interpreter.get_signature_runner(key)
        scale, zero = run.get_output_details()["y"]["quantization"]
        found = run(a_tokens=sample(length))["y"]
        found = (found.astype(np.float32) - zero) * scale if scale else found
        wanted = np.asarray(whole(sample(length)))
        assert 10 * np.log10(np.sum(wanted**2) / max(np.sum((found - wanted) ** 2), 1e-30)) > least_snr_db


@pytest.mark.parametrize(
    ("precision", "least_snr_db", "again"),
    [
        ("fp32", 100, 0),
        pytest.param("dynamic-int8", 25, 12 * WORDS, marks=pytest.mark.slow),  # a scale and a zero point for each row
        pytest.param("fp16", 50, 0, marks=pytest.mark.slow),
    ],
)
def test_several_lengths_share_one_set_of_weights(
    edgekit: Run, model: Path, tmp_path: Path, precision: str, least_snr_db: float, again: int
) -> None:
    """The file of two has more operators, and what a tensor of quantized weights states beside them: `again` bytes."""
    argv = ("convert", model, "--to", "tflite", "--precision", precision)
    one = edgekit(*argv, "--length", "a_tokens=12", "-o", tmp_path / "one.tflite", "--json")
    two = edgekit(*argv, "--length", "a_tokens=12,5", "-o", tmp_path / "two.tflite", "--json")
    assert (one.exit_code, two.exit_code) == (0, 0), two.stderr
    check(tmp_path / "two.tflite", model, least_snr_db=least_snr_db)
    assert two.json["bytes"] - again < 1.15 * one.json["bytes"]
    found = [edgekit("inspect", tmp_path / name, "--json").json for name in ("one.tflite", "two.tflite")]
    assert found[0]["parameters"] == found[1]["parameters"]
    assert sum(layer["bytes"] for layer in found[1]["layers"]) < 1.15 * found[0]["bytes"]
    assert [item["shape"] for item in found[1]["inputs"]] == [[1, 12]]


def test_integers_take_the_ranges_of_the_first_length(edgekit: Run, model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", a_tokens=sample(12, 40))
    argv = ("--precision", "int8", "--calibration", tmp_path / "c.npz", "--length", "a_tokens=12,5")
    ended = edgekit("convert", model, "--to", "tflite", *argv, "-o", tmp_path / "x.tflite", "--json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.json["notes"][0].startswith("ranges were measured by the first signature, and biases")
    assert ended.json["float_layers"] == []
    check(tmp_path / "x.tflite", model, least_snr_db=10)


@pytest.mark.slow
def test_onnx_says_that_it_has_the_first_length_alone(edgekit: Run, model: Path, tmp_path: Path) -> None:
    ended = edgekit("convert", model, "--to", "onnx", "--length", "a_tokens=12,5", "-o", tmp_path / "x.onnx", "--json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.json["notes"] == ["made for the first signature: only .tflite files have several"]


def test_a_length_reaches_every_verb_that_opens_the_model(edgekit: Run, model: Path) -> None:
    found = edgekit("inspect", model, "--length", "a_tokens=12", "--json").json
    assert [item["shape"] for item in found["inputs"]] == [[None, 12]]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "'a_tokens' has shape (None, None), which leaves more open than the batch: give it a length: --len"),
        (("--length", "a_tokens"), "--length is 'a_tokens', expected INPUT=N, for example tokens=128"),
        (("--length", "a_tokens=0"), "lengths: 'a_tokens' is '0', expected a whole number from 1 on"),
        (("--length", "words=5"), "lengths: the model has no input 'words'; known: a_tokens"),
        (
            ("--length", "a_tokens=5,6", "--dynamic-batch"),
            "'reader' has several signatures: choose one, or leave",
        ),
    ],
)
def test_a_wrong_length(edgekit: Run, model: Path, tmp_path: Path, argv: tuple[str, ...], message: str) -> None:
    ended = edgekit("convert", model, "--to", "tflite", *argv, "-o", tmp_path / "x.tflite")
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert not (tmp_path / "x.tflite").exists()
