"""The planted layer comes first, with the right reason; files come from the converters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgekit.comparing import compare
from edgekit.comparison import LayerComparison, LayerParity
from edgekit.comparison.model_file import compare_files, describe
from edgekit.conversion import Source, find_converter
from edgekit.exporting import export_source
from edgekit.layers import keras_layers
from edgekit.loading import LoadedModel, load
from edgekit.progress import LoggedProgress
from tests.comparison.planted import IMAGES, OUTLIER_CHANNEL, cnn

FAULTS = {"outlier": {"factor": 300.0}, "saturating": {"gate_bias": -9.0}}


@dataclass(frozen=True)
class Planted:
    """A planted model as a user has it."""

    model: Path
    loaded: LoadedModel
    source: Source

    def convert(self, format_name: str, precision: str, images: np.ndarray = IMAGES) -> Path:
        converter = find_converter(format_name)
        path = self.model.with_name(f"{precision}{converter.suffix}")
        self.source.work.mkdir(exist_ok=True)
        converter.convert(self.source, precision=precision, calibration={"image": images}, output=path)
        return path


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Planted]:
    """`planted(fault)`."""

    @cache
    def make(fault: str) -> Planted:
        folder = tmp_path_factory.mktemp(fault)
        cnn(**FAULTS[fault]).save(folder / "model.keras")
        loaded = load(folder / "model.keras", trusted=True)
        return Planted(folder / "model.keras", loaded, export_source(loaded, folder / "work"))

    return make


@pytest.fixture(scope="module")
def compared(planted: Callable[[str], Planted]) -> Callable[[str, str], LayerComparison]:
    """`compared(fault, format)`: the fp32 and the int8 file of a planted model, layer by layer."""

    @cache
    def layers(fault: str, format_name: str) -> LayerComparison:
        made = planted(fault)
        files = [describe(made.convert(format_name, precision), format_name) for precision in ("fp32", "int8")]
        known = {layer.name: layer.bytes > 0 for layer in keras_layers(made.loaded.model)}
        return compare_files(*files, {"image": IMAGES[:8]}, known_layers=known)

    return layers


Compared = Callable[[str, str], LayerComparison]


def causes(layer: LayerParity) -> set[str]:
    return {reason.cause for reason in layer.reasons}


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_a_planted_outlier_channel_comes_first_and_kills_the_others(compared: Compared, format_name: str) -> None:
    worst, second, *_ = compared("outlier", format_name).culprits(5)
    assert (worst.name, causes(worst)) == ("middle", {"range-outliers", "dead-channels"})
    assert f"channel {OUTLIER_CHANNEL} of 8 reaches" in worst.reasons[0].text
    assert "vary in float and are constant when quantized" in worst.reasons[1].text
    assert worst.output_db < second.output_db - 10
    assert "range-outliers" not in causes(second)


def test_what_comes_after_inherits_the_error(compared: Compared) -> None:
    by_name = {layer.name: layer for layer in compared("outlier", "tflite").layers}
    assert by_name["first"].snr_db == pytest.approx(by_name["first"].introduced_db, abs=3)  # little to inherit yet
    assert by_name["last"].snr_db < by_name["last"].introduced_db - 10


def test_layers_are_in_execution_order_under_their_keras_names(compared: Compared) -> None:
    for format_name in ("tflite", "onnx"):
        found = compared("outlier", format_name)
        assert list(dict.fromkeys(layer.name for layer in found.layers)) == [
            "image", "first", "middle", "last", "pool", "gate",
        ]  # fmt: skip
        assert (found.samples, found.output_samples, found.unmatched) == (8, 8, ())


def test_a_sigmoid_in_its_flat_part_comes_first(compared: Compared) -> None:
    worst = compared("saturating", "tflite").culprits(1)[0]
    assert (worst.name, worst.operator) == ("gate", "LOGISTIC")
    assert worst.reasons[0].cause == "saturating-activation"
    assert worst.reasons[0].text.startswith("saturating activation: 100.0% of its values")


def test_a_keras_model_against_a_file_that_was_calibrated_on_less(planted: Callable[[str], Planted]) -> None:
    made = planted("outlier")
    file = made.convert("tflite", "int8-float-io", IMAGES / 4)
    found = compare(made.model, file, {"x": IMAGES}, layers=True, samples=6, progress=LoggedProgress())
    assert found.samples == 6
    assert found.outputs.snr_db is not None
    assert found.layers is not None
    image = found.layers.layers[0]
    assert (image.name, image.operator, image.reasons[0].cause) == ("image", "input", "range-too-small")
    assert image.saturation == pytest.approx(0.75, abs=0.05)
