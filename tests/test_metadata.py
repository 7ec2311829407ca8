from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ConfigError
from edgekit.manifest import Input
from edgekit.metadata import (
    Image,
    InputSettings,
    MetadataSettings,
    ModelMetadata,
    OutputSettings,
    TensorMetadata,
    check_formats,
    describe_model,
    metadata_settings,
    read_labels,
)
from edgekit.tensors import TensorSpec

PHOTO = Input("photo", (None, 32, 48, 3), "float32", (0.0, 1.0))
SOUND = Input("sound", (None, 100), "float32", (-0.5, 0.5))
SCORES = TensorSpec("scores", (None, 3), "float32")
EXTRA = TensorSpec("extra", (None, 2), "float32")


def describe(
    settings: MetadataSettings | None = None,
    inputs: tuple[Input, ...] = (PHOTO, SOUND),
    labels: tuple[str, ...] | None = None,
) -> ModelMetadata:
    return describe_model(
        settings or MetadataSettings(),
        identity=("net", "1.2.0"),
        inputs=inputs,
        outputs=(SCORES, EXTRA),
        labels=labels,
    )


def test_without_settings_it_says_what_is_known() -> None:
    found = describe(labels=("a", "b", "c"))
    assert (found.name, found.version, found.author) == ("net", "1.2.0", None)
    photo, sound = found.inputs
    assert (photo.content, photo.image, photo.mean) == ("image", Image("RGB", (32, 48)), None)
    assert (sound.content, sound.image, sound.least, sound.largest) == ("feature", None, (-0.5,), (0.5,))
    assert found.outputs == (
        TensorMetadata("scores", content="feature", labels=("a", "b", "c")),
        TensorMetadata("extra", content="feature"),
    )


def test_settings_go_before_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "extra.txt").write_text("no\nyes\n")
    settings = MetadataSettings(
        name="Net",
        version="2",
        inputs={"photo": InputSettings("A photo.", "feature", (0,), (255,), ("batch", "height", "width", "channel"))},
        outputs={"extra": OutputSettings("Sure?", str(tmp_path / "extra.txt"), ("batch", "answer"))},
    )
    found = describe(settings)
    assert (found.name, found.version) == ("Net", "2")
    photo = found.inputs[0]
    assert (photo.description, photo.content, photo.image) == ("A photo.", "feature", None)
    assert (photo.mean, photo.std) == ((0.0,), (255.0,))
    assert all(isinstance(value, float) for value in (*(photo.mean or ()), *(photo.std or ())))
    assert photo.dimension_names == ("batch", "height", "width", "channel")
    assert found.outputs[1] == TensorMetadata(
        "extra", "Sure?", "feature", None, ("batch", "answer"), labels=("no", "yes")
    )


@pytest.mark.parametrize(
    ("shape", "dtype", "image"),
    [
        ((None, 8, 8, 1), "float32", Image("GRAYSCALE", (8, 8))),
        ((None, 8, 8, 3), "uint8", Image("RGB", (8, 8))),
        ((None, None, None, 3), "float32", Image("RGB", None)),
        ((None, 8, 8, 4), "float32", None),
        ((None, 8, 3), "float32", None),
        ((None, 8, 8, 3), "int32", None),
    ],
)
def test_an_image_is_told_by_shape_and_dtype(shape: Any, dtype: str, image: Image | None) -> None:
    (found,) = describe(inputs=(Input("x", shape, dtype),)).inputs
    assert found.image == image
    assert found.content == ("feature" if image is None else "image")


@pytest.mark.parametrize(
    ("mean", "std", "measured"),
    [
        ((0.0,), (255.0,), (0.0, 1.0)),
        ((127.5,), (127.5,), (-1.0, 1.0)),
        ((255.0,), (-255.0,), (0.0, 1.0)),  # inverted
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), (-2.1179, 2.64)),
        ((0.0,), (255.0,), (-0.03, 1.04)),  # resized with a cubic filter
        ((0.0,), (1.0,), (3.0, 250.0)),
    ],
)
def test_normalization_that_the_data_agrees_with(mean: Any, std: Any, measured: tuple[float, float]) -> None:
    settings = MetadataSettings(inputs={"photo": InputSettings(mean=mean, std=std)})
    (found,) = describe(settings, inputs=(replace(PHOTO, range=measured),)).inputs
    assert (found.mean, found.std) == (mean, std)


def test_normalization_that_the_data_contradicts_is_refused() -> None:
    settings = MetadataSettings(inputs={"photo": InputSettings(mean=(127.5,), std=(127.5,))})
    with pytest.raises(ConfigError) as caught:
        describe(settings, inputs=(replace(PHOTO, range=(0.0, 255.0)),))
    assert str(caught.value) == (
        "[metadata.inputs.photo]: mean 127.5 and std 127.5 turn pixels from 0 to 255 into -1 to 1, but the calibration "
        "data holds 0 to 255: give the numbers that the data was normalized with (0 and 1 for none)"
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"autor": "x"}, "metadata: unknown key 'autor'; did you mean 'author'?"),
        ({"license": 2}, "metadata: license is 2, expected a string"),
        ({"inputs": {"photo": {"men": [1]}}}, "unknown key 'men' in [inputs.photo]; did you mean 'mean'?"),
        ({"inputs": {"photo": {"mean": 1.0, "std": [1]}}}, "inputs.photo.mean is 1.0, expected a list"),
        ({"inputs": {"photo": {"mean": [1.0]}}}, "mean and std go together"),
        ({"inputs": {"photo": {"mean": [1.0], "std": [0.0]}}}, "mean 1 and std 0: expected finite numbers"),
        ({"inputs": {"photo": {"mean": [float("nan")], "std": [1.0]}}}, "mean nan and std 1: expected finite numbers"),
        ({"inputs": {"photo": {"content": "picture"}}}, "inputs.photo.content is 'picture'"),
        ({"inputs": {"foto": {}}}, "[metadata.inputs.foto]: the model has no such input; did you mean 'photo'?"),
        ({"outputs": {"score": {}}}, "[metadata.outputs.score]: the model has no such output; did you mean 'scores'?"),
        (
            {"inputs": {"photo": {"mean": [1, 2], "std": [1]}}},
            "[metadata.inputs.photo]: mean has 2 numbers, expected 1 or one for each channel of 'photo'",
        ),
        (
            {"inputs": {"sound": {"content": "image"}}},
            "[metadata.inputs.sound]: content is 'image', but the input is 'sound' (batch, 100) float32",
        ),
        (
            {"outputs": {"extra": {"dimension_names": ["batch"]}}},
            "[metadata.outputs.extra]: 1 dimension_names, expected 2, one for each axis of (batch, 2)",
        ),
        ({"outputs": {"extra": {"labels": "none.txt"}}}, "cannot read labels none.txt: No such file or directory"),
        ({"outputs": {"scores": {"labels": "none.txt"}}}, "[metadata.outputs.scores]: labels are given twice"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_place(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        describe(metadata_settings(table) or MetadataSettings(), labels=("a", "b", "c"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\nc\n", "3 labels, expected 2, one for each entry of the last axis of 'extra' (batch, 2) float32"),
        (b"a\n\n", "label 2 is '', expected a name in one line"),
        (b"a\n \n", "label 2 is ' ', expected a name in one line"),
        (b"a\nk\xf6nig\n", "byte 3 is not UTF-8; save it as UTF-8"),
    ],
)
def test_a_label_file_that_does_not_fit(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "extra.txt"
    path.write_bytes(content)
    settings = MetadataSettings(outputs={"extra": OutputSettings(labels=str(path))})
    with pytest.raises(ConfigError) as caught:
        describe(settings)
    assert message in str(caught.value)
    assert "extra.txt" in str(caught.value)


def test_a_label_of_two_lines_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"label 2 is 'b\\nc', expected a name in one line"):
        describe(labels=("a", "b\nc", "d"))


def test_labels_are_lines(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\nb ü\n", encoding="utf-8")
    assert read_labels(tmp_path / "labels.txt") == ("a", "b ü")


def test_a_build_without_a_format_that_holds_it_is_refused() -> None:
    check_formats(None, ("onnx",))
    check_formats(MetadataSettings(), ("onnx", "tflite"))
    with pytest.raises(ConfigError, match=r"\[metadata\]: no target of this build takes tflite, which holds it"):
        check_formats(MetadataSettings(), ("onnx",))
