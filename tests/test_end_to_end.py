"""The whole job on a very small model: from a project file to a tested bundle and its report."""

from __future__ import annotations

import base64
import dataclasses
import json
import zipfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import edgekit
from edgekit.bundle import Bundle
from edgekit.cli import main
from edgekit.inspection import inspect
from edgekit.runtime.golden import read_golden
from tests.conftest import Digits
from tests.converters.pbtxt_reader import read_config
from tests.converters.triton_python import run_python_model
from tests.report.test_schema import problems
from tests.tiny_project import PROJECT, write_project

VARIANTS = ["tflite-int8", "tflite-fp16", "tflite-fp32", "onnx-int8", "onnx-fp16", "onnx-fp32"]


@dataclass(frozen=True)
class Built:
    folder: Path
    report: dict[str, Any]

    @property
    def bundle(self) -> Path:
        return self.folder / "tiny-0.1.0.edgekit"


@pytest.fixture(scope="session")
def built(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("end-to-end")
    out = folder / "out"
    assert main(["build", str(write_project(folder, digits)), "-o", str(out)]) == 0
    return Built(out, json.loads((out / "report.json").read_text()))


def test_a_build_leaves_the_bundle_the_model_and_the_report_and_nothing_else(built: Built) -> None:
    assert sorted(path.name for path in built.folder.iterdir()) == [
        "report-junit.xml", "report.html", "report.json", "report.md", "tiny-0.1.0.edgekit", "tiny-0.1.0.keras",
    ]  # fmt: skip


def test_the_report_looks_into_every_layer(built: Built) -> None:
    found = {entry["variant"]: entry for entry in built.report["layers"]}
    assert list(found) == VARIANTS
    for entry in found.values():
        named = {layer["name"]: layer for layer in entry["layers"]}
        assert len(named) == len(entry["layers"])
        assert {"conv0", "depthwise"} & set(named), "the Keras layers, whatever the format calls its operators"
    weights = {name: sum(layer["bytes"] for layer in found[name]["layers"]) for name in VARIANTS}
    assert weights["tflite-int8"] < weights["tflite-fp16"] < weights["tflite-fp32"]
    int8 = found["tflite-int8"]
    assert int8["samples"] == 4
    measured = [layer["snr_db"] for layer in int8["layers"] if layer["snr_db"] is not None]
    assert len(measured) >= 5
    assert all(0 < snr < 200 for snr in measured)
    assert found["tflite-fp32"]["note"] == "the file that the others of its format are compared with"
    assert any(layer["sparsity"] and layer["sparsity"] > 0.4 for layer in int8["layers"])


def test_the_report_shows_the_golden_inputs_and_what_changed(built: Built) -> None:
    golden = [sample for sample in built.report["samples"] if sample["golden"]]
    assert len(golden) == 8
    assert all(list(sample["predictions"]) == VARIANTS for sample in built.report["samples"])
    assert all(base64.b64decode(sample["picture"]).startswith(b"\x89PNG") for sample in golden)
    for sample in built.report["samples"][8:]:
        assert any(found != sample["reference"] for found in sample["predictions"].values())


def test_the_report_is_valid_and_makes_the_same_page_again(built: Built, tmp_path: Path) -> None:
    assert problems(built.report) == []
    assert main(["report", str(built.folder), "-o", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_bytes() == (built.folder / "report.html").read_bytes()


def test_the_report_has_the_documented_keys(built: Built) -> None:
    report = built.report
    assert (report["format"], report["format_version"]) == ("edgekit-report", 1)
    assert {"name", "version", "metric_name", "float_metric", "float_parameters", "float_bytes"} <= set(report["model"])
    assert report["model"]["float_bytes"] == 4 * report["model"]["float_parameters"]
    assert [variant["id"] for variant in report["variants"]] == VARIANTS
    for variant in report["variants"]:
        assert {
            "id", "format", "precision", "member", "targets", "bytes", "ratio", "metric", "metric_drop", "median_ms",
            "p90_ms", "samples", "engine", "device", "float_layers", "notes",
        } <= set(variant)  # fmt: skip
        assert variant["ratio"] == pytest.approx(report["model"]["float_bytes"] / variant["bytes"])
        assert variant["metric_drop"] == pytest.approx(report["model"]["float_metric"] - variant["metric"])
    largest = max((v for v in report["variants"] if v["precision"] == "int8"), key=lambda variant: variant["bytes"])
    item = {"name": "max_bytes", "limit": 100_000, "met": True, "value": largest["bytes"], "variant": largest["id"]}
    assert report["budget"] == {"met": True, "items": [item]}


def test_every_variant_was_measured_on_the_device(built: Built) -> None:
    for variant in built.report["variants"]:
        assert variant["samples"] >= 200
        assert 0 < variant["median_ms"] <= variant["p90_ms"]
        assert variant["device"].startswith("local:")
    assert built.report["device_tests"]["passed"] > len(VARIANTS)
    assert built.report["device_tests"]["failed"] == 0
    assert all(golden["passed"] for golden in built.report["golden"])


def test_float_variants_equal_keras_and_int8_variants_agree_with_each_other(built: Built) -> None:
    parity = {entry["variant"]: entry for entry in built.report["parity"]}
    compared = {(entry["reference"], entry["other"]) for entry in built.report["pairs"]}
    assert compared == set(combinations(["keras", *parity], 2))
    assert parity["tflite-fp32"]["max_abs"] <= 1e-4
    assert parity["onnx-fp32"]["max_abs"] <= 1e-4
    for variant in ("tflite-int8", "onnx-int8"):
        assert parity[variant]["snr_db"] > 20
        assert parity[variant]["top1_agreement"] > 0.95


def test_jetson_variants_carry_the_recipe_of_their_engine(built: Built) -> None:
    with Bundle.open(built.bundle) as bundle:
        variants = bundle.manifest.variants
    carrying = {variant.id for variant in variants if variant.tensorrt is not None}
    assert carrying == {variant.id for variant in variants if "jetson-orin-nano" in variant.targets} != set()


def test_jetson_variants_carry_what_tensorrt_said(built: Built) -> None:
    notes = {variant["id"]: " ".join(variant["notes"]) for variant in built.report["variants"]}
    for variant in ("onnx-int8", "onnx-fp16", "onnx-fp32"):
        if find_spec("tensorrt_rtx") is None:
            assert "not checked by tensorrt" in notes[variant]
            assert "edgekit[tensorrt-rtx]" in notes[variant]
        else:
            assert "accepted by the TensorRT-RTX" in notes[variant]
    assert "TensorRT" not in notes["tflite-int8"]


def test_phone_variants_carry_what_the_gpu_takes(built: Built) -> None:
    notes = {variant["id"]: " ".join(variant["notes"]) for variant in built.report["variants"]}
    assert "android-arm64's gpu delegate has all" in notes["tflite-int8"]
    assert "gpu delegate" not in notes["onnx-int8"]


def test_the_int8_files_hold_the_trained_int8_weights_and_their_zeros(built: Built, tmp_path: Path) -> None:
    model = edgekit.load(built.folder / "tiny-0.1.0.keras")
    kernel = np.asarray(model.model.get_layer("conv").kernel)
    assert np.mean(kernel == 0) == pytest.approx(0.5, abs=0.02)
    with zipfile.ZipFile(built.bundle) as archive:
        archive.extract("tflite-int8.tflite", tmp_path)
        archive.extract("onnx-int8.onnx", tmp_path)
    from edgekit.inspection import inspect

    for name in ("tflite-int8.tflite", "onnx-int8.onnx"):
        layers = inspect(tmp_path / name).layers
        sparsities = [layer.sparsity for layer in layers if layer.precision == "int8" and layer.sparsity is not None]
        assert max(sparsities) >= 0.48, name


def test_plain_keras_opens_the_compressed_model(built: Built, digits: Digits) -> None:
    plain = keras.saving.load_model(built.folder / "tiny-0.1.0.keras")
    with edgekit.open_bundle(built.bundle, variant="onnx-fp32") as session:
        outputs = session.run({"image": digits.test["image"]})
    np.testing.assert_allclose(outputs["probabilities"], plain.predict(digits.test["image"], verbose=0), atol=1e-4)


def test_a_session_takes_and_gives_floats_under_keras_names(built: Built, digits: Digits) -> None:
    with edgekit.open_bundle(built.bundle) as session:
        assert session.choice.variant == "tflite-int8"
        assert [spec.name for spec in session.inputs] == ["image"]
        assert [spec.name for spec in session.outputs] == ["probabilities"]
        outputs = session.run({"image": digits.test["image"]})["probabilities"]
    variant = next(v for v in built.report["variants"] if v["id"] == "tflite-int8")
    assert float(np.mean(outputs.argmax(axis=1) == digits.test["y"])) == pytest.approx(variant["metric"])


def test_the_verbs_work_on_the_bundle(
    built: Built, digits: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(built.bundle)
    assert main(["run", bundle, "--input", str(digits.test_file), "-o", str(tmp_path / "y.npz")]) == 0
    assert np.load(tmp_path / "y.npz")["probabilities"].shape == (len(digits.test["y"]), 10)
    capsys.readouterr()
    assert main(["bench", bundle, "--runs", "20", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["samples_ms"]) == 20
    assert main(["inspect", bundle, "--json"]) == 0
    assert [variant["id"] for variant in json.loads(capsys.readouterr().out)["variants"]] == VARIANTS
    assert main(["test", bundle, "--device", "local:", "--junit", str(tmp_path / "junit.xml")]) == 0
    assert "tflite-int8" in (tmp_path / "junit.xml").read_text()


def test_a_changed_byte_is_refused_with_the_members_name(
    built: Built, digits: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = change_a_byte(built.bundle, tmp_path)
    command = ["run", str(changed), "--input", str(digits.test_file), "-o", str(tmp_path / "y.npz")]
    assert main(command) == 2
    assert "tflite-int8.tflite" in capsys.readouterr().err
    assert not (tmp_path / "y.npz").exists()


@pytest.fixture(scope="session")
def over_budget(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, str]:
    """A build that misses its budget, by calibration data that say little; and what it prints."""
    folder = tmp_path_factory.mktemp("over-budget")
    sevens = digits.train["image"][digits.train["y"] == 7][:30]
    np.savez(folder / "sevens.npz", image=255 * sevens, y=np.full(30, 7))
    text = PROJECT[: PROJECT.index("[[compress]]")] + (
        'calibration = "sevens.npz"\n[targets.local]\nprecision = ["fp32"]\n'
        "[budget]\nmax_bytes = 10\nmax_p90_ms = 1000.0\n"
    )
    printed = StringIO()
    with redirect_stdout(printed):
        assert main(["build", str(write_project(folder, digits, text)), "-o", str(folder / "out")]) == 1
    return Built(folder / "out", json.loads((folder / "out" / "report.json").read_text())), printed.getvalue()


def test_a_budget_that_is_not_met_exits_1_and_still_reports(over_budget: tuple[Built, str]) -> None:
    report = over_budget[0].report
    assert {item["name"]: item["met"] for item in report["budget"]["items"]} == {"max_bytes": False, "max_p90_ms": True}
    assert over_budget[0].bundle.exists()
    assert report["model"]["float_metric"] == report["model"]["compressed_metric"]


def test_doubts_about_the_calibration_data_are_in_the_report_and_on_the_terminal(
    over_budget: tuple[Built, str],
) -> None:
    built, printed = over_budget
    few, one_kind, elsewhere = built.report["notes"]
    assert "30 samples; ranges measured on 100 or more" in few
    assert "all 30 samples have the same label" in one_kind
    assert "'image' goes from 0 to 255, in the evaluation data" in elsewhere
    assert [line.removeprefix("note: ") for line in printed.splitlines() if line.startswith("note: ")] == [
        few, one_kind, elsewhere,
    ]  # fmt: skip


def test_the_device_tests_do_not_begin_on_a_damaged_bundle(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = change_a_byte(built.bundle, tmp_path)
    assert main(["test", str(damaged)]) == 2
    assert "tflite-int8.tflite" in capsys.readouterr().err


def test_a_metric_may_stand_beside_the_project_file(digits: Digits, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("def half(outputs, labels):\n    return 0.5\n")
    text = PROJECT[: PROJECT.index("[[compress]]")] + 'metric = "beside:half"\n[targets.local]\nprecision = ["fp32"]\n'
    out = tmp_path / "out"
    assert main(["build", str(write_project(tmp_path, digits, text)), "-o", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert {variant["metric"] for variant in report["variants"]} == {0.5}
    assert set(report["provenance"]["data_sha256"]) == {"train", "calibration", "evaluation"}


def change_a_byte(bundle: Path, folder: Path) -> Path:
    """A copy in which one byte of the int8 TFLite member is another."""
    changed = folder / "changed-1.0.edgekit"
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(changed, "w") as target:
        for info in source.infolist():
            content = bytearray(source.read(info))
            if info.filename == "tflite-int8.tflite":
                content[len(content) // 2] ^= 1
            target.writestr(info, bytes(content))
    return changed


def test_tflite_files_say_what_they_are(built: Built, tmp_path: Path) -> None:
    for precision in ("int8", "fp16", "fp32"):
        found = inspected(built.bundle, f"tflite-{precision}.tflite", tmp_path)
        card = found["metadata"]
        assert (card["name"], card["version"], card["license"]) == ("tiny", "0.1.0", "Apache-2.0")
        (image,) = card["inputs"]
        assert (image["name"], image["content"]) == ("image", "image")
        assert image["image"] == {"color": "GRAYSCALE", "size": [8, 8]}
        assert (image["mean"], image["std"]) == ([0.0], [255.0])
        assert (image["least"], image["largest"]) == ([0.0], [1.0])
        assert card["outputs"][0]["labels"] == [str(digit) for digit in range(10)]


def test_onnx_files_hold_no_tflite_metadata(built: Built, tmp_path: Path) -> None:
    assert inspected(built.bundle, "onnx-fp32.onnx", tmp_path)["metadata"] is None


def inspected(bundle: Path, member: str, folder: Path) -> Any:
    with zipfile.ZipFile(bundle) as archive:
        archive.extract(member, folder)
    return json.loads(json.dumps(dataclasses.asdict(inspect(folder / member))))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_triton_gets_a_model_that_gives_the_golden_outputs(built: Built, tmp_path: Path, precision: str) -> None:
    """As a server does it: all that is known of the model comes from its folder in the repository."""
    import onnxruntime

    argv = ["convert", str(built.bundle), "--to", "triton", "--precision", precision, "-o", str(tmp_path)]
    assert main(argv) == 0
    config = read_config((tmp_path / "tiny" / "config.pbtxt").read_text())
    assert config["output"][0]["label_filename"] == "labels.txt"
    session = onnxruntime.InferenceSession(str(tmp_path / "tiny/1/model.onnx"), providers=["CPUExecutionProvider"])
    with Bundle.open(built.bundle) as bundle:
        golden, limit = read_golden(bundle), bundle.variant(f"onnx-{precision}").golden_tolerance
    for request in config["model_warmup"]:
        (image,) = request["inputs"].values()
        raw = np.fromfile(tmp_path / "tiny" / "warmup" / image["input_data_file"], np.float32)
        batch = np.repeat(raw.reshape(1, *image["dims"]), request["batch_size"], axis=0)
        (got,) = session.run([config["output"][0]["name"]], {config["input"][0]["name"]: batch})
        wanted = golden.outputs["probabilities"]
        np.testing.assert_array_equal(batch[0], golden.inputs["image"][0])
        assert np.abs(got - wanted[:1]).max() <= limit * np.abs(wanted).max()


@pytest.fixture(scope="session")
def picture(digits: Digits, built: Built) -> tuple[Path, int]:
    """The first digit of the test data as a photo of it would be, four times as large, and its class."""
    from PIL import Image

    pixels = np.rint(digits.test["image"][0, :, :, 0] * 255).astype(np.uint8)
    path = built.folder.parent / "digit.png"
    Image.fromarray(np.kron(pixels, np.ones((4, 4), np.uint8))).save(path)
    return path, int(digits.test["y"][0])


@pytest.mark.parametrize("variant", ["tflite-int8", "onnx-fp32"])
def test_a_picture_goes_in_and_its_label_comes_out(
    built: Built, picture: tuple[Path, int], variant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, digit = picture
    assert main(["run", str(built.bundle), "--input", str(path), "--variant", variant, "--top", "2", "--json"]) == 0
    ((first, second),) = json.loads(capsys.readouterr().out)["top"]
    assert (first["index"], first["label"]) == (digit, str(digit))
    assert first["score"] > second["score"]


def test_an_app_is_told_of_the_preprocessing(built: Built, tmp_path: Path) -> None:
    assert main(["unpack", str(built.bundle), "--for", "android", "-o", str(tmp_path)]) == 0
    (image,) = json.loads((tmp_path / "tiny.json").read_text())["inputs"]
    told = image["preprocessing"]["picture"]
    assert (told["resize"], told["color"], told["mean"], told["std"]) == ([8, 8], "grayscale", [0.0], [255.0])


def test_triton_gets_an_ensemble_that_takes_pictures(built: Built, picture: tuple[Path, int], tmp_path: Path) -> None:
    """The Python model and the ONNX file one after the other, as the ensemble says, without edgekit."""
    import onnxruntime
    from PIL import Image

    assert main(["convert", str(built.bundle), "--to", "triton", "--precision", "fp32", "-o", str(tmp_path)]) == 0
    ensemble = read_config((tmp_path / "tiny-ensemble" / "config.pbtxt").read_text())
    assert (ensemble["platform"], ensemble["output"][0]["label_filename"]) == ("ensemble", "labels.txt")
    before, model = ensemble["ensemble_scheduling"]["step"]
    raw = np.asarray(Image.open(picture[0]))[None, :, :, None]
    (prepared,) = run_python_model(tmp_path / before["model_name"], {ensemble["input"][0]["name"]: raw}).values()
    session = onnxruntime.InferenceSession(
        str(tmp_path / model["model_name"] / "1/model.onnx"), providers=["CPUExecutionProvider"]
    )
    (scores,) = session.run(None, {next(iter(model["input_map"])): prepared})
    assert scores.argmax() == picture[1]
