from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
from edgekit_tflite.embedding import embed
from onnx import helper

from edgekit.metadata import Image, ModelMetadata, TensorMetadata
from tests.conftest import Digits
from tests.onnx_graphs import convolution, model, saved
from tests.tiny_models import SOUNDS, float_onnx, int8_tflite, pack

Run = Callable[..., Any]

CARD = ModelMetadata(
    "tiny", "1.0.0", "Tells\nshapes.", "its maker", "MIT",
    (TensorMetadata("image", "From the camera.", "image", Image("RGB", (8, 12)), None, (1.0, 2.0, 3.0), (255.0,),
                    (0.0,), (1.0,)),),
    (TensorMetadata("scores", None, "feature", dimension_names=("batch", "class"), labels=tuple("abcdef")),),
)  # fmt: skip
KEYS = {
    "format", "inputs", "outputs", "bytes", "parameters", "layers", "metadata", "min_runtime_version", "precision",
    "signatures",
}  # fmt: skip


def test_a_keras_model(edgekit: Run, digits: Digits) -> None:
    found = edgekit("inspect", digits.model, "--json").json
    assert set(found) == KEYS
    assert found["inputs"] == [{"name": "image", "shape": [None, 8, 8, 1], "dtype": "float32"}]
    assert found["parameters"] == 1498
    conv = {"type": "Conv2D", "bytes": 288, "precision": "float32", "sparsity": 0.0, "runtime": None}
    assert {"name": "conv", **conv} in found["layers"]


def test_a_keras_model_as_text(edgekit: Run, digits: Digits) -> None:
    lines = edgekit("inspect", digits.model).stdout.splitlines()
    assert lines[0].startswith("keras, ")
    assert "1,498 parameters" in lines[0]
    assert "input  'image' (batch, 8, 8, 1) float32" in lines
    assert any(line.split() == ["conv", "Conv2D", "288", "float32", "0%"] for line in lines)


@pytest.mark.parametrize(("suffix", "content"), [("tflite", int8_tflite), ("onnx", float_onnx)])
def test_a_converted_file(edgekit: Run, tmp_path: Path, suffix: str, content: Callable[[], bytes]) -> None:
    path = tmp_path / f"tiny.{suffix}"
    path.write_bytes(content())
    found = edgekit("inspect", path, "--json").json
    assert set(found) == KEYS
    assert (found["format"], found["bytes"], len(found["layers"])) == (suffix, path.stat().st_size, 1)
    assert found["parameters"] == 15


def test_metadata_of_a_tflite_file(edgekit: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(embed(int8_tflite(), CARD, where="x"))
    lines = edgekit("inspect", path).stdout.splitlines()
    assert "metadata: tiny 1.0.0; Tells shapes.; by its maker; license MIT" in lines
    assert "  input 'image': image RGB 8 × 12; (x - (1, 2, 3)) / 255; values 0 to 1; From the camera." in lines
    assert "  output 'scores': feature; axes batch, class; 6 labels (a, b, c, d, e, …)" in lines
    found = edgekit("inspect", path, "--json").json["metadata"]
    assert found["inputs"][0]["image"] == {"color": "RGB", "size": [8, 12]}
    assert found["outputs"][0]["labels"] == ["a", "b", "c", "d", "e", "f"]


def test_a_file_without_metadata_says_nothing_of_it(edgekit: Run, tmp_path: Path) -> None:
    (tmp_path / "tiny.tflite").write_bytes(int8_tflite())
    assert "metadata" not in edgekit("inspect", tmp_path / "tiny.tflite").stdout
    assert edgekit("inspect", tmp_path / "tiny.tflite", "--json").json["metadata"] is None


def test_a_bundle(edgekit: Run, tiny_bundle: Path) -> None:
    found = edgekit("inspect", tiny_bundle, "--json").json
    assert (found["name"], found["version"], found["signed_by"]) == ("tiny", "1.0.0", [])
    assert [variant["id"] for variant in found["variants"]] == ["tflite-fp32", "tflite-int8", "onnx-fp32"]
    text = edgekit("inspect", tiny_bundle).stdout
    assert text.startswith("tiny 1.0.0, every member's hash verified, not signed")
    assert "input  'image' (batch, 4) float32" in text


def test_a_bundle_that_was_changed_is_refused(edgekit: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    changed = bytearray(tiny_bundle.read_bytes())
    changed[-60] ^= 1
    (tmp_path / "changed.edgekit").write_bytes(changed)
    assert edgekit("inspect", tmp_path / "changed.edgekit").exit_code == 2


@pytest.mark.parametrize("name", ["none.keras", "none.tflite", "none.onnx", "none.edgekit"])
def test_a_missing_file(edgekit: Run, tmp_path: Path, name: str) -> None:
    ended = edgekit("inspect", tmp_path / name)
    assert ended.exit_code == 2
    assert name in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["text.keras", "text.tflite", "text.onnx", "text.edgekit", "text.txt", "text"])
def test_a_file_that_is_no_model(edgekit: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is no model " * 100)
    ended = edgekit("inspect", tmp_path / name, "--json")
    assert ended.exit_code == 2
    assert name in ended.json["error"]["message"]


def test_weights_with_an_architecture(edgekit: Run, digits: Digits, tmp_path: Path) -> None:
    keras.saving.load_model(digits.model).save_weights(tmp_path / "digits.weights.h5")
    found = edgekit(
        "inspect", tmp_path / "digits.weights.h5", "--architecture", "tests.conftest:digits_cnn", "--json"
    ).json
    assert found["parameters"] == 1498


def test_an_onnx_file_is_held_against_tensorrts_rules(edgekit: Run, tmp_path: Path) -> None:
    ended = edgekit("inspect", convolution(tmp_path / "sound.onnx"), "--for", "tensorrt")
    assert ended.exit_code == 0
    assert ended.stdout.endswith("\nno rule of tensorrt is broken\n")
    bad = model([helper.make_node("Det", ["x"], ["y"], name="only")], shape=(1, 2, 2))
    del bad.graph.output[0].type.tensor_type.shape.dim[1:]
    ended = edgekit("inspect", saved(bad, tmp_path / "bad.onnx"), "--for", "tensorrt")
    assert ended.exit_code == 1
    assert "\n1 finding for tensorrt\nunknown-operator: 'only': TensorRT has no operator Det; " in ended.stdout


def test_findings_stand_in_the_json(edgekit: Run, tmp_path: Path) -> None:
    path = saved(model([helper.make_node("Relu", ["x"], ["y"])], opset=8), tmp_path / "old.onnx")
    ended = edgekit("inspect", path, "--for", "tensorrt", "--json")
    assert ended.exit_code == 1
    (found,) = ended.json["findings"]
    assert (found["rule"], found["node"], found["remedy"]) == ("opset", "tiny", "export it with opset 18")


def test_rules_are_for_onnx_files_and_known_tools(edgekit: Run, tmp_path: Path) -> None:
    ended = edgekit("inspect", "model.keras", "--for", "tensorrt")
    assert ended.exit_code == 2
    assert "--for is for .onnx files, and model.keras is none: leave it out" in ended.stderr
    ended = edgekit("inspect", convolution(tmp_path / "x.onnx"), "--for", "tensorrtt")
    assert ended.exit_code == 2
    assert "did you mean 'tensorrt'?" in ended.stderr


def test_a_bundle_says_what_its_inputs_are_made_of(edgekit: Run, tmp_path: Path) -> None:
    bundle = pack(tmp_path, inputs=SOUNDS)
    assert "\n'image' from audio (sample_rate 8000, samples 4)\n" in edgekit("inspect", bundle).stdout
    declared = edgekit("inspect", bundle, "--json").json["inputs"][0]["preprocessing"]
    assert (declared["picture"], declared["audio"]["samples"]) == (None, 4)
