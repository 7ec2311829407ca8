"""What an app gets: files that, read as the JSON says, give the golden outputs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import Bundle, write_bundle
from edgekit.errors import BundleError, ConfigError
from edgekit.manifest import State, Variant
from edgekit.unpacking import unpack
from tests import tiny_models
from tests.disk import below_a_file
from tests.tiny_models import pack

Run = Callable[..., Any]


def read(folder: Path, entry: dict[str, Any]) -> np.ndarray:
    return np.fromfile(folder / entry["file"], np.dtype(entry["dtype"]).newbyteorder("<")).reshape(entry["shape"])


def as_an_app_does(folder: Path) -> float:
    """The largest difference from the golden outputs, as the page in the docs says how to run a file."""
    from ai_edge_litert.interpreter import Interpreter

    said = json.loads((folder / "tiny.json").read_text())
    interpreter = Interpreter(str(folder / said["file"]))
    interpreter.allocate_tensors()
    (taken,), (given,) = said["inputs"], said["outputs"]
    arrays = {(item["role"], item["name"]): read(folder, item) for item in said["golden"]["arrays"]}
    worst = 0.0
    golden = arrays["output", given["name"]]
    for sample, expected in zip(arrays["input", taken["name"]], golden, strict=True):
        x, how = sample, taken["quantization"]
        if how is not None:
            x = np.clip(np.rint(sample / how["scale"]) + how["zero_point"], -128, 127)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x[None].astype(taken["dtype"]))
        interpreter.invoke()
        y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].astype(np.float32)
        if given["quantization"] is not None:
            y = (y - given["quantization"]["zero_point"]) * given["quantization"]["scale"]
        worst = max(worst, float(np.abs(y - expected).max()))
    return worst / float(np.abs(golden).max())


@pytest.mark.parametrize("variant", ["tflite-int8", "tflite-fp32"])
def test_the_files_give_the_golden_outputs(edgekit_cli: Run, tiny: Path, tmp_path: Path, variant: str) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/other.txt").write_text("kept")
    ended = edgekit_cli("unpack", str(tiny), "--for", "android", "-o", str(tmp_path / "assets"), "--variant", variant)
    assert ended == 0
    assert (tmp_path / "assets/other.txt").read_text() == "kept"
    said = json.loads((tmp_path / "assets/tiny.json").read_text())
    assert said["variant"] == variant
    assert as_an_app_does(tmp_path / "assets") <= said["golden"]["tolerance"]


def test_the_best_tflite_variant_is_the_default(tiny: Path, tmp_path: Path) -> None:
    with Bundle.open(tiny) as bundle:
        assert unpack(bundle, tmp_path, system="android").variant == "tflite-int8"


def test_labels_are_lines(tiny: Path, tmp_path: Path) -> None:
    with Bundle.open(tiny) as bundle:
        manifest = dataclasses.replace(bundle.manifest, labels=("ant", "bée"))
        files = {name: tmp_path / name for name in bundle.packed_bytes()}
        for name, path in files.items():
            path.write_bytes(bundle.read(name))
    write_bundle(tmp_path / "labelled.edgekit", manifest, files)
    with Bundle.open(tmp_path / "labelled.edgekit") as bundle:
        unpack(bundle, tmp_path / "assets", system="android")
    assert (tmp_path / "assets/labels.txt").read_text(encoding="utf-8") == "ant\nbée\n"
    assert json.loads((tmp_path / "assets/tiny.json").read_text())["labels"] == "labels.txt"


def test_what_cannot_be_unpacked(tiny: Path, tmp_path: Path) -> None:
    onnx_alone = pack(tmp_path / "onnx", tuple(it for it in tiny_models.parts() if it.format == "onnx"))
    with Bundle.open(tiny) as bundle:
        with pytest.raises(ConfigError, match="no files for 'androd'; did you mean 'android'"):
            unpack(bundle, tmp_path / "a", system="androd")
        with pytest.raises(ConfigError, match="'onnx-fp32' is onnx, and android runs tflite"):
            unpack(bundle, tmp_path / "a", system="android", variant="onnx-fp32")
        with pytest.raises(BundleError, match="no variant 'tflite-int9'; did you mean 'tflite-int8'"):
            unpack(bundle, tmp_path / "a", system="android", variant="tflite-int9")
    with Bundle.open(onnx_alone) as bundle, pytest.raises(BundleError, match="android runs tflite, and the bundle has"):
        unpack(bundle, tmp_path / "a", system="android")
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_written_to(edgekit_cli: Run, tiny: Path, tmp_path: Path) -> None:
    assert edgekit_cli("unpack", str(tiny), "--for", "android", "-o", str(below_a_file(tmp_path))) == 2


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", ""])
def test_a_model_whose_name_is_a_path(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path)
    with Bundle.open(path) as bundle:
        manifest = dataclasses.replace(bundle.manifest, name=name)
    with pytest.raises(BundleError, match=r"leaves the bundle|expected no '/'"):
        write_bundle(tmp_path / "evil.edgekit", manifest, {})


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return pack(tmp_path / "tiny")


@pytest.fixture
def edgekit_cli() -> Run:
    from edgekit.cli import main

    return lambda *argv: main(list(argv))


class Stateful(tiny_models.Part):
    def variant(self) -> Variant:
        return dataclasses.replace(super().variant(), state=State())


def test_a_model_with_state_is_not_unpacked(tmp_path: Path) -> None:
    path = pack(tmp_path, (Stateful("tflite", "fp32", tiny_models.float_tflite(), "litert"),))
    for variant in (None, "tflite-fp32"):
        with (
            Bundle.open(path) as bundle,
            pytest.raises(ConfigError, match="'tflite-fp32' keeps state from call to call"),
        ):
            unpack(bundle, tmp_path / "assets", system="android", variant=variant)
    assert not (tmp_path / "assets").exists()
