"""A trained classifier with one planted outlier channel: int8 collapses, and `--fix` repairs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.calibration import manifest_inputs
from edgekit.comparison import compare_outputs
from edgekit.comparison.model_file import describe, run_file
from edgekit.conversion import Artifact, Source, find_converter
from edgekit.data import Data
from edgekit.exporting import export_source
from edgekit.inspection import FORMAT_OF_SUFFIX
from edgekit.loading import LoadedModel, load
from edgekit.manifest import Provenance
from edgekit.measuring import MeasuredVariant
from edgekit.measuring import describe as describe_variant
from edgekit.packing import pack
from edgekit.planning import PlannedVariant
from edgekit.runtime.golden import GoldenVectors
from tests.conftest import Digits

Run = Callable[..., Any]

FACTOR = 200.0
HELD_BACK = 297


@dataclass(frozen=True)
class Planted:
    """What a user has: the model, its float and its int8 file, and data."""

    model: Path
    float_file: Path
    int8: Path
    onnx: Path
    onnx_int8: Path
    bundle: Path  # of both .tflite files
    train: Path
    test: Path

    def accuracy(self, path: Path) -> float:
        """Top-1 of a file, counted here."""
        with np.load(self.test) as data:
            outputs = run_file(describe(path, FORMAT_OF_SUFFIX[path.suffix]), {"image": data["image"]}, label=path.name)
            return float(np.mean(outputs["probabilities"].argmax(axis=1) == data["y"]))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    model = trained(digits)
    plant(model)
    model.save(folder / "model.keras")
    loaded = load(folder / "model.keras", trusted=True)
    source = export_source(loaded, folder)
    float_file, int8, onnx, onnx_int8 = (
        convert(source, precision, digits.train["image"][:200], folder, form)
        for form in ("tflite", "onnx")
        for precision in ("fp32", "int8")
    )
    bundle = folder / "planted-1.0.edgekit"
    write(bundle, loaded, (float_file, int8), digits.few(2)["image"])
    files = [made.path for made in (float_file, int8, onnx, onnx_int8)]
    return Planted(folder / "model.keras", *files, bundle, digits.train_file, digits.test_file)


def convert(source: Source, precision: str, images: np.ndarray, folder: Path, form: str) -> Artifact:
    path = folder / f"{precision}.{form}"
    return find_converter(form).convert(source, precision=precision, calibration={"image": images}, output=path)


def write(bundle: Path, loaded: LoadedModel, artifacts: Iterable[Artifact], images: np.ndarray) -> None:
    golden = GoldenVectors({"image": images}, loaded.predict({"image": images}))
    parity = compare_outputs(golden.outputs, golden.outputs)
    measured = [
        MeasuredVariant(describe_variant(PlannedVariant("tflite", it.precision, (), ()), it, ()), it, 1.0, parity)
        for it in artifacts
    ]
    inputs = manifest_inputs(loaded.inputs, Data({"image": images}, None, "images"))
    made = Provenance((), {}, "0" * 64, {})
    pack(
        bundle, measured, golden, identity=("planted", "1.0"), model=loaded, inputs=inputs, labels=None, provenance=made
    )


def trained(digits: Digits) -> Any:
    """Separable convolutions and two dense layers: 8,900 parameters, most of them in `hidden`."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    image = outputs = keras.Input((8, 8, 1), name="image")
    outputs = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(outputs)
    outputs = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(outputs)
    outputs = layers.Conv2D(16, 1, activation="relu", name="pointwise")(outputs)
    outputs = layers.Flatten(name="flatten")(layers.MaxPooling2D(name="pool")(outputs))
    outputs = layers.Dense(32, activation="relu", name="hidden")(outputs)
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(outputs), name="planted")
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    model.fit(digits.train["image"], digits.train["y"], batch_size=64, epochs=10, verbose=0)
    return model


def plant(model: Any) -> None:
    """The channel of `stem` that reaches furthest is multiplied, its weights in `depthwise` divided: float is equal."""
    kernel, bias = model.get_layer("stem").get_weights()
    channel = int(np.abs(kernel).sum(axis=(0, 1, 2)).argmax())
    kernel[..., channel] *= FACTOR
    bias[channel] *= FACTOR
    model.get_layer("stem").set_weights([kernel, bias])
    kernel, bias = model.get_layer("depthwise").get_weights()
    kernel[:, :, channel] /= FACTOR
    model.get_layer("depthwise").set_weights([kernel, bias])


def test_a_planted_outlier_is_found_and_repaired(edgekit: Run, planted: Planted, tmp_path: Path) -> None:
    output = tmp_path / "fixed.tflite"
    ended = edgekit(
        "compare", planted.model, planted.int8, "--data", planted.test, "--layers", "--fix", "-o", output,
        "--calibration", planted.train, "--json",
    )  # fmt: skip
    assert ended.exit_code == 0
    found = ended.json
    worst = next(layer for layer in found["layers"] if layer["tensor"] == found["culprits"][0])
    assert (worst["name"], worst["reasons"][0]["cause"]) == ("stem", "range-outliers")
    readers = {layer["name"]: layer["readers"] for layer in found["layers"]}
    assert len(readers["pointwise"]) == 3  # pool and flatten hand the values on to `hidden`
    fix = found["fix"]
    assert (fix["goal"], fix["rows"], fix["met"], fix["needed"]) == ("top-1 accuracy", HELD_BACK, True, True)
    assert fix["value"] < fix["float_value"] - 0.05  # plain int8 collapses
    assert fix["best"]["value"] >= fix["float_value"] - 0.005
    assert 0 < fix["weight_share"] <= 0.10
    assert set(fix["best"]["layers"]) <= {"stem", "depthwise"}
    assert fix["cost"]["bytes_after"] == output.stat().st_size == fix["best"]["bytes"]
    assert fix["cost"]["after"]["median_ms"] > 0
    assert planted.accuracy(output) == fix["best"]["value"]
    assert fix["other"]["met"]
    assert fix["cost"]["other"]["median_ms"] > 0


def test_the_lines_to_paste_make_the_same_file(edgekit: Run, planted: Planted, tmp_path: Path) -> None:
    """Of two variants of a bundle."""
    import tomllib

    output = tmp_path / "fixed.tflite"
    ended = edgekit(
        "compare", f"{planted.bundle}#tflite-fp32", f"{planted.bundle}#tflite-int8", "--data", planted.test,
        "--layers", "--fix", "-o", output,
        "--calibration", planted.train,
    )  # fmt: skip
    assert ended.exit_code == 0
    words, _, pasted = ended.stdout.partition("[convert.tflite]\n")
    assert "Cost: " in words
    settings = tomllib.loads(pasted)
    converter = find_converter("tflite").with_options(settings, where="pasted")
    again = tmp_path / "again.tflite"
    with np.load(planted.train) as data:
        images = data["image"][np.linspace(0, len(data["image"]) - 1, 200).astype(int)]
    from edgekit.given import converted_source

    source = converted_source(planted.float_file, converter, tmp_path)
    converter.convert(source, precision="int8", calibration={"image": images}, output=again)
    assert again.read_bytes() == output.read_bytes()


@pytest.mark.parametrize(("side", "kept"), [("model", {"stem", "depthwise"}), ("onnx", None)])
def test_an_onnx_file_is_repaired_too(
    edgekit: Run, planted: Planted, tmp_path: Path, side: str, kept: set[str] | None
) -> None:
    """By the names of Keras layers, or of the file's nodes; tf2onnx calls the depthwise one Conv__ and a number."""
    import onnx

    output, reference = tmp_path / "fixed.onnx", getattr(planted, side)
    ended = edgekit(
        "compare", reference, planted.onnx_int8, "--data", planted.test, "--fix", "-o", output,
        "--calibration", planted.train, "--json",
    )  # fmt: skip
    assert ended.exit_code == 0
    fix = ended.json["fix"]
    assert fix["value"] < fix["float_value"] - 0.05
    assert fix["best"]["value"] >= fix["float_value"] - 0.005
    assert set(fix["best"]["layers"]) <= (kept or {node.name for node in onnx.load(planted.onnx).graph.node})
    assert 0 < fix["weight_share"] <= 0.10
    assert planted.accuracy(output) == fix["best"]["value"]
    assert fix["other"] is None  # ONNX has no int16 activations


def test_the_lines_to_paste_are_for_onnx(edgekit: Run, planted: Planted, tmp_path: Path) -> None:
    import tomllib

    output, again = tmp_path / "fixed.onnx", tmp_path / "again.onnx"
    ended = edgekit(
        "compare", planted.model, planted.onnx_int8, "--data", planted.test, "--fix", "-o", output,
        "--calibration", planted.train,
    )  # fmt: skip
    (tmp_path / "project.toml").write_text("[convert.onnx]" + ended.stdout.partition("[convert.onnx]")[2])
    settings = tomllib.loads((tmp_path / "project.toml").read_text())["convert"]["onnx"]
    with np.load(planted.train) as data:
        images = data["image"][np.linspace(0, len(data["image"]) - 1, 200).astype(int)]
    converter = find_converter("onnx").with_options(settings, where="pasted")
    source = export_source(load(planted.model, trusted=True), tmp_path)
    converter.convert(source, precision="int8", calibration={"image": images}, output=again)
    assert again.read_bytes() == output.read_bytes()


def test_when_no_set_of_layers_meets_the_budget(edgekit: Run, planted: Planted, tmp_path: Path) -> None:
    output = tmp_path / "fixed.tflite"
    argv = ("compare", planted.model, planted.int8, "--data", planted.test, "--fix", "-o", output,
            "--min-snr", "200", "--samples", "8")  # fmt: skip
    ended = edgekit(*argv)
    assert ended.exit_code == 1
    assert "the budget asks for at least 200.0 dB." in ended.stdout
    assert "No set of layers meets it. The best of " in ended.stdout
    assert not output.exists()


def test_a_file_that_meets_the_budget_already(edgekit: Run, planted: Planted, tmp_path: Path) -> None:
    output = tmp_path / "fixed.tflite"
    argv = ("compare", planted.model, planted.int8, "--data", planted.test, "--fix", "-o", output,
            "--max-drop", "99", "--samples", "8")  # fmt: skip
    ended = edgekit(*argv)
    assert ended.exit_code == 0
    assert ended.stdout.splitlines()[-1] == "B meets the budget: nothing to fix, nothing written."
    assert not output.exists()


@pytest.mark.parametrize(
    ("other", "options", "expected"),
    [
        ("float_file", ("-o", "new.tflite"), "fp32.tflite is fp32: --fix is for int8 and int8-float-io"),
        ("model", ("-o", "new.tflite"), "is a Keras model: --layers looks into a converted file"),
        ("int8", ("-o", "new.onnx"), "output is new.onnx, expected a name that ends in .tflite"),
        ("onnx_int8", ("-o", "new.tflite"), "output is new.tflite, expected a name that ends in .onnx"),
        ("onnx", ("-o", "new.onnx"), "fp32.onnx is fp32: --fix is for int8"),
        ("int8", (), "--fix writes a file: say where with -o FILE"),
        ("int8", ("-o", "new.tflite", "--max-drop", "101"), "--max-drop is 101 points, expected 0 to 100"),
    ],
)
def test_what_cannot_be_fixed(
    edgekit: Run, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str,
    options: tuple[str, ...], expected: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    side = getattr(planted, other)
    ended = edgekit("compare", planted.model, side, "--data", planted.test, "--fix", *options, "--json")
    assert ended.exit_code == 2
    assert expected in json.loads(ended.stdout)["error"]["message"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["-o", "--max-drop", "--min-snr", "--calibration"])
def test_flags_of_fix_alone(edgekit: Run, planted: Planted, flag: str) -> None:
    ended = edgekit("compare", planted.model, planted.int8, "--data", planted.test, flag, "1")
    assert ended.exit_code == 2
    assert f"{flag} is for --fix: add it" in ended.stderr
