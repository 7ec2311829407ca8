"""A build that begins from an ONNX file: from a project file to a tested bundle, without Keras."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgekit as package
from edgekit.cli import main
from edgekit.files import sha256_file
from tests.conftest import TorchDigits
from tests.pytorch_files import IMAGE, SCORES, torch_model, with_outside_weights

PROJECT = """\
name = "torch"
version = "0.1.0"
model = "digits.onnx"

[data]
calibration = "train.npz"
evaluation = "test.npz"

[targets.jetson-orin-nano]
precision = ["int8", "fp16"]

[budget]
max_metric_drop = 0.02
"""


@dataclass(frozen=True)
class Built:
    folder: Path
    report: dict[str, Any]

    @property
    def bundle(self) -> Path:
        return self.folder / "torch-0.1.0.edgekit"


def write_project(folder: Path, files: TorchDigits, text: str = PROJECT) -> Path:
    folder.mkdir(exist_ok=True)
    for source in (files.model, files.train_file, files.test_file):
        shutil.copy(source, folder / source.name)
    (folder / "project.toml").write_text(text)
    return folder / "project.toml"


@pytest.fixture(scope="module")
def built(torch_digits: TorchDigits, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("onnx-build")
    assert main(["build", str(write_project(folder, torch_digits)), "-o", str(folder / "out")]) == 0
    return Built(folder / "out", json.loads((folder / "out" / "report.json").read_text()))


def test_a_build_leaves_the_bundle_and_the_report_and_nothing_else(built: Built) -> None:
    assert sorted(path.name for path in built.folder.iterdir()) == [
        "report-junit.xml", "report.html", "report.json", "report.md", "torch-0.1.0.edgekit",
    ]  # fmt: skip


def test_a_variant_without_an_fp32_twin_says_why_it_has_no_snr(built: Built) -> None:
    for entry in built.report["layers"]:
        assert entry["note"] == "no SNR by layer: the build has no onnx-fp32 to compare with"
        assert entry["layers"]
        assert all(layer["output_db"] is None and layer["culprit"] is None for layer in entry["layers"])


def test_the_report_says_that_it_is_post_training_only(built: Built, torch_digits: TorchDigits) -> None:
    model = built.report["model"]
    assert (model["float_parameters"], model["float_bytes"]) == (1498, 4 * 1498)
    assert model["float_metric"] == model["compressed_metric"] > 0.9
    assert model["compressed_sparsity"] is None
    assert built.report["notes"][0] == (
        "digits.onnx: post-training only: no Keras model stands behind it, so nothing of it was trained or compressed"
    )
    assert built.report["provenance"]["recipe"] == []
    assert built.report["provenance"]["model_sha256"] == sha256_file(torch_digits.model)
    page = (built.folder / "report.html").read_text()
    assert "post-training only" in page
    assert "After compression" not in page


def test_every_variant_is_held_to_the_float_file(built: Built) -> None:
    assert [variant["id"] for variant in built.report["variants"]] == ["onnx-int8", "onnx-fp16"]
    parity = {entry["variant"]: entry for entry in built.report["parity"]}
    assert parity["onnx-fp16"]["snr_db"] > 50
    assert parity["onnx-int8"]["snr_db"] > 30
    assert all(golden["passed"] for golden in built.report["golden"])
    assert built.report["device_tests"]["failed"] == 0
    assert built.report["budget"]["met"]
    if find_spec("tensorrt_rtx") is not None:
        for variant in built.report["variants"]:
            assert "accepted by the TensorRT-RTX" in " ".join(variant["notes"])


def test_a_session_takes_the_names_of_the_file(built: Built, torch_digits: TorchDigits) -> None:
    with package.open_bundle(built.bundle) as session:
        assert [spec.name for spec in (*session.inputs, *session.outputs)] == [IMAGE, SCORES]
        scores = session.run({IMAGE: torch_digits.images})[SCORES]
    assert np.mean(scores.argmax(axis=1) == torch_digits.labels) > 0.9


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')
def test_it_becomes_an_engine_too(torch_digits: TorchDigits, tmp_path: Path) -> None:
    """Quantized, held to the float file as the ONNX file that it was built from, and packed."""
    project = write_project(tmp_path / "p", torch_digits, PROJECT.replace("jetson-orin-nano", "rtx-4090"))
    assert main(["build", str(project), "-o", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [variant["id"] for variant in report["variants"]] == ["tensorrt-int8", "tensorrt-fp16"]
    for variant, dtype in zip(report["variants"], ("Int8", "Half"), strict=True):
        (built,) = [note for note in variant["notes"] if note.startswith("built by TensorRT-RTX")]
        assert re.search(rf" for SM89: (\d+) of \1 weighted layers planned as {dtype}$", built)
    assert all(entry["snr_db"] > 30 for entry in report["parity"])
    assert report["budget"]["met"]


@pytest.fixture
def refused(torch_digits: TorchDigits, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that a changed project, and a changed model, get."""

    def build(old: str, new: str, change: Callable[[Path], object] = lambda _: None) -> str:
        project = write_project(tmp_path / "project", torch_digits, PROJECT.replace(old, new))
        change(project.with_name("digits.onnx"))
        capfd.readouterr()
        assert main(["build", str(project), "-o", str(tmp_path / "out")]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert not list((tmp_path / "out").glob("*"))
        return line

    return build


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[budget]",
            '[[compress]]\nstep = "prune"\nsparsity = 0.5\nepochs = 1\n[budget]',
            "digits.onnx holds no Keras model, so it cannot be compressed, only converted: leave the recipe",
        ),
        (
            "jetson-orin-nano",
            "android-arm64",
            "target 'android-arm64' takes tflite, which no .onnx file becomes: bring the Keras model, or",
        ),
        ("[data]", 'architecture = "my:model"\n[data]', "leave architecture out, or bring the Keras model"),
        ('"int8", "fp16"', '"int16x8"', "does not take precision 'int16x8'"),
        ("[budget]", "[convert.tflite]\n[budget]", "[convert.tflite]: no target of this build takes 'tflite'"),
        ("[budget]", '[metadata]\ndescription = "x"\n[budget]', "[metadata]: no target of this build takes tflite"),
        ('"digits.onnx"', '"none.onnx"', "none.onnx: no such file"),
    ],
)
def test_a_project_that_an_onnx_file_cannot_have(refused: Callable[..., str], old: str, new: str, message: str) -> None:
    assert message in refused(old, new)


def test_a_file_that_no_bundle_can_have(
    refused: Callable[..., str], torch_digits: TorchDigits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_four(path: Path) -> None:
        onnx.save(torch_model(torch_digits.weights, batch=4), str(path))

    assert "digits.onnx takes batches of 4 alone, and a bundle is called with any number" in refused("", "", of_four)

    def halves(path: Path) -> None:
        weights = {name: values.astype(np.float16) for name, values in torch_digits.weights.items()}
        made = torch_model(weights)
        for value in (*made.graph.input, *made.graph.output):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        onnx.save(made, str(path))

    assert "digits is quantized already (fp16), so its float weights are gone and fp32 cannot" in refused(
        "", "", halves
    )

    def too_large(path: Path) -> None:
        with_outside_weights(torch_model(torch_digits.weights), path)
        monkeypatch.setattr("edgekit_onnx.conversion.MOST_BYTES", 8000)

    message = "digits.onnx: its weights take more than one ONNX file holds and lie beside it, and a member of a bundle"
    assert message in refused("", "", too_large)
