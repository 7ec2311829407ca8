from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Digits
from tests.tiny_models import BIAS, IMAGES, float_onnx, float_tflite, int8_tflite

Run = Callable[..., Any]

PARITY_KEYS = {"reference", "other", "samples", "max_abs", "cosine", "snr_db", "top1_agreement"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One dense layer as float and int8 TFLite and as ONNX, with data."""
    made = tmp_path_factory.mktemp("compare")
    for name, content in (("f.tflite", float_tflite()), ("q.tflite", int8_tflite()), ("f.onnx", float_onnx())):
        (made / name).write_bytes(content)
    np.savez(made / "x.npz", x=IMAGES)
    np.savez(made / "other.npz", picture=IMAGES, second=IMAGES)
    np.savez(made / "wide.npz", x=np.zeros((3, 5), np.float32))
    return made


def test_parity_of_two_files(edgekit: Run, folder: Path) -> None:
    found = edgekit("compare", folder / "f.tflite", folder / "q.tflite", "--data", folder / "x.npz", "--json").json
    assert set(found) == PARITY_KEYS
    assert found["samples"] == len(IMAGES)
    assert 0 < found["max_abs"] < 0.05
    assert 30 < found["snr_db"] < 60
    assert found["top1_agreement"] == 1.0


def test_a_file_whose_outputs_are_not_finite(edgekit: Run, folder: Path, tmp_path: Path) -> None:
    content, bias = float_tflite(), BIAS.tobytes()
    assert bias in content
    (tmp_path / "nan.tflite").write_bytes(content.replace(bias, np.full_like(BIAS, np.nan).tobytes()))
    argv = ("compare", folder / "f.tflite", tmp_path / "nan.tflite", "--data", folder / "x.npz", "--layers")
    found = edgekit(*argv, "--json").json
    assert (found["max_abs"], found["snr_db"]) == (None, None)
    assert "largest difference nan" in edgekit(*argv).stdout


def test_parity_across_formats_whose_only_names_differ(edgekit: Run, folder: Path) -> None:
    ended = edgekit("compare", folder / "f.tflite", folder / "f.onnx", "--data", folder / "x.npz", "--samples", "3")
    assert ended.exit_code == 0
    assert ", 3 samples: largest difference " in ended.stdout
    assert "top-1 agreement 100.0%" in ended.stdout


def test_layers_as_json(edgekit: Run, folder: Path) -> None:
    argv = ("compare", folder / "f.tflite", folder / "q.tflite", "--data", folder / "x.npz", "--layers", "--json")
    found = edgekit(*argv).json
    assert set(found) == PARITY_KEYS | {"layers", "culprits", "unmatched", "output_samples"}
    image, dense = found["layers"]
    assert (image["operator"], dense["operator"]) == ("input", "FULLY_CONNECTED")
    assert set(dense) == {
        "name", "keras_layers", "tensor", "operator", "snr_db", "introduced_db", "output_db", "cosine", "saturation",
        "rounding_share", "setting", "readers", "reasons", "reason",
    }  # fmt: skip
    assert dense["introduced_db"] == pytest.approx(dense["output_db"], abs=0.1)  # its output is the model's
    assert found["culprits"] == ["serving_scores", "serving_image"]
    assert (image["readers"], dense["readers"]) == (["serving_scores"], [])
    assert dense["reasons"][0]["cause"] == "rounding"


def test_layers_as_text(edgekit: Run, folder: Path) -> None:
    argv = ("compare", folder / "f.tflite", folder / "q.tflite", "--data", folder / "x.npz", "--layers")
    lines = edgekit(*argv).stdout.splitlines()
    assert lines[2].split("  ")[0] == "layer"
    assert any(line.startswith("1. serving_scores (FULLY_CONNECTED), ") for line in lines)
    assert any(line.startswith("   rounding of the output") for line in lines)


def test_variants_of_a_bundle(edgekit: Run, tiny_bundle: Path, folder: Path) -> None:
    sides = (f"{tiny_bundle}#tflite-fp32", f"{tiny_bundle}#tflite-int8")
    found = edgekit("compare", *sides, "--data", folder / "x.npz", "--layers", "--json").json
    assert len(found["layers"]) == 2
    assert found["snr_db"] > 30


def message(edgekit: Run, *argv: object) -> str:
    """The one line of a refusal."""
    ended = edgekit("compare", *argv, "--json")
    assert ended.exit_code == 2
    return str(ended.json["error"]["message"])


def test_a_bundle_without_a_variant(edgekit: Run, tiny_bundle: Path, folder: Path) -> None:
    said = message(edgekit, folder / "f.tflite", tiny_bundle, "--data", folder / "x.npz")
    assert "holds 3 variants (tflite-fp32, tflite-int8, onnx-fp32): name one, like " in said
    assert said.endswith("tiny-1.0.0.edgekit#tflite-fp32")


def test_an_unknown_variant(edgekit: Run, tiny_bundle: Path, folder: Path) -> None:
    said = message(edgekit, f"{tiny_bundle}#tflite-int9", folder / "q.tflite", "--data", folder / "x.npz")
    assert "no variant 'tflite-int9'; did you mean 'tflite-int8'?" in said


def test_a_missing_file(edgekit: Run, folder: Path) -> None:
    said = message(edgekit, folder / "none.tflite", folder / "q.tflite", "--data", folder / "x.npz")
    assert said == f"no file {folder / 'none.tflite'}"


def test_a_file_that_is_no_model(edgekit: Run, folder: Path) -> None:
    (folder / "text.tflite").write_text("no model " * 100)
    said = message(edgekit, folder / "text.tflite", folder / "q.tflite", "--data", folder / "x.npz")
    assert "text.tflite: not a TFLite file that LiteRT opens" in said


@pytest.mark.parametrize(
    ("sides", "data", "options", "expected"),
    [
        (("q.tflite", "f.tflite"), "x.npz", ("--layers",), "the first file holds integers ('serving_image'): give the"),
        (("f.onnx", "q.tflite"), "x.npz", ("--layers",), "--layers compares files of one format; give the Keras model"),
        (("f.tflite", "q.tflite"), "x.npz", ("--samples", "0"), "samples is 0, expected at least 1"),
        (("f.tflite", "q.tflite"), "other.npz", (), "data (other.npz): no array named 'serving_image'"),
        (("f.tflite", "q.tflite"), "wide.npz", (), "'serving_image' has shape (3, 5) float32, expected (batch, 4)"),
        (("f.tflite", "q.tflite"), "none.npz", (), "data: no file none.npz"),
    ],
)
def test_what_cannot_be_compared(
    edgekit: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, sides: tuple[str, str], data: str,
    options: tuple[str, ...], expected: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    assert expected in message(edgekit, *sides, "--data", data, *options)


def test_layers_of_a_keras_model(edgekit: Run, folder: Path, digits: Digits) -> None:
    said = message(edgekit, digits.model, digits.model, "--data", digits.test_file, "--layers")
    assert "is a Keras model: --layers looks into a converted file; give the Keras model first" in said


def test_two_files_of_different_models(edgekit: Run, folder: Path, digits: Digits) -> None:
    ended = edgekit("compare", digits.model, folder / "q.tflite", "--data", digits.test_file)
    assert ended.exit_code == 2
    assert "serving_image" in ended.stderr.splitlines()[-1]
