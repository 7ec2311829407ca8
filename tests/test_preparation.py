from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgekit.errors import ConfigError
from edgekit.manifest import Input
from edgekit.metadata import InputSettings, MetadataSettings, describe_model
from edgekit.preparation import check_preprocessing, declared_preprocessing
from edgekit.preprocessing.declared import Audio, Picture, Preprocessing
from edgekit.tensors import TensorSpec

PHOTO = Input("photo", (None, 8, 8, 3), "float32", (0.0, 1.0))
DIVIDED = Picture(resize=(8, 8), mean=(0.0,), std=(255.0,))


def declared(picture: Picture, measured: tuple[float, float] | None = (0.0, 1.0), **changes: Any) -> Input:
    return replace(PHOTO, range=measured, preprocessing=Preprocessing(picture), **changes)


def test_tables_and_values_are_taken() -> None:
    table = {"picture": {"resize": [8, 8], "mean": [0], "std": [255]}}
    value = Preprocessing(DIVIDED)
    assert declared_preprocessing({"a": table, "b": value}) == {"a": value, "b": value}
    assert declared_preprocessing(None) == {}
    with pytest.raises(ConfigError, match=r"preprocessing\.a: unknown key 'pictur'; did you mean 'picture'\?"):
        declared_preprocessing({"a": {"pictur": {}}})


@pytest.mark.parametrize(
    ("picture", "measured"),
    [
        (DIVIDED, (0.0, 1.0)),
        (DIVIDED, (0.2, 0.7)),
        (replace(DIVIDED, mean=(127.5,), std=(127.5,)), (-1.0, 1.0)),
        (Picture(resize=(8, 8)), (0.0, 255.0)),
        (Picture(resize=(8, 8)), None),
    ],
)
def test_what_the_data_agrees_with(picture: Picture, measured: tuple[float, float] | None) -> None:
    check_preprocessing(["photo"], [declared(picture, measured)])


@pytest.mark.parametrize(
    ("picture", "measured", "message"),
    [
        (DIVIDED, (0.0, 255.0), "mean 0 and std 255 turn pixels from 0 to 255 into 0 to 1, but the calibration data"),
        (DIVIDED, (-1.0, 1.0), "turn pixels from 0 to 255 into 0 to 1"),
        (
            Picture(resize=(8, 8)),
            (0.0, 1.0),
            "pixels from 0 to 255 would span 255, but the calibration data holds 0 to 1",
        ),
        (replace(DIVIDED, resize=(9, 8)), (0.0, 1.0), "it gives (batch, 9, 8, 3), and the model takes 'photo'"),
    ],
)
def test_what_the_data_or_the_model_contradicts(picture: Picture, measured: tuple[float, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_preprocessing(["photo"], [declared(picture, measured)])
    assert str(caught.value).startswith("[preprocessing.photo]: ")
    assert message in str(caught.value)


def test_an_input_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"preprocessing\.foto\]: the model has no such input; did you mean 'photo'"):
        check_preprocessing(["foto"], [PHOTO])


def test_a_sound_is_not_held_against_pixels() -> None:
    sound = Input("sound", (None, 4), "float32", (-0.1, 0.1), Preprocessing(audio=Audio(8000, samples=4)))
    check_preprocessing(["sound"], [sound])


class TestMetadata:
    """Of `.tflite` files, which Android reads."""

    def described(self, item: Input, **settings: Any) -> Any:
        asked = MetadataSettings(inputs={"photo": InputSettings(**settings)} if settings else {})
        outputs = (TensorSpec("scores", (None, 2), "float32"),)
        return describe_model(asked, identity=("net", "1"), inputs=(item,), outputs=outputs, labels=None).inputs[0]

    def test_mean_and_std_are_those_of_the_preprocessing(self) -> None:
        found = self.described(declared(DIVIDED), description="A photo.")
        assert (found.content, found.mean, found.std, found.description) == ("image", (0.0,), (255.0,), "A photo.")
        assert self.described(declared(DIVIDED), mean=(0,), std=(255,)).std == (255.0,)

    def test_two_different_ones_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="mean 1 and std 255, but the preprocessing says mean 0 and std 255"):
            self.described(declared(DIVIDED), mean=(1,), std=(255,))

    def test_blue_first_is_no_image_of_android(self) -> None:
        found = self.described(declared(replace(DIVIDED, color="BGR")))
        assert (found.content, found.image, found.std) == ("feature", None, (255.0,))

    def test_channels_first_say_nothing(self) -> None:
        item = declared(replace(DIVIDED, layout="channels_first"), shape=(None, 3, 8, 8))
        assert (self.described(item).content, self.described(item).mean) == ("feature", None)
