"""Cross-layer equalization: channels of unlike size, planted, cost int8 its accuracy, and equalizing brings it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from edgekit_tflite import conversion
from edgekit_tflite.conversion import _float_export
from edgekit_tflite.equalization import HEADROOM, LARGEST_FACTOR, equalize, factors
from edgekit_tflite.running import Runner
from keras import layers

from edgekit.conversion import Source, find_converter
from edgekit.errors import ConfigError, ConversionError
from edgekit.exporting import export_source
from edgekit.loading import LoadedModel, load
from edgekit.ranges import snr_db

pytestmark = pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve_all_tensors`")
SAMPLES = 16


def network(*, cap: float | None, imbalance: float, bias: bool = True) -> Any:
    """Convolution, depthwise convolution (padded apart, with a stride), convolution, mean, dense.

    Every second channel between them is `imbalance` times as large as the others, which no output shows.
    """
    image = keras.Input((12, 12, 3), name="image")
    outputs = layers.Conv2D(8, 3, padding="same", use_bias=bias, name="expand")(image)
    outputs = layers.ReLU(cap, name="act0")(outputs)
    outputs = layers.ZeroPadding2D(((0, 1), (0, 1)), name="pad")(outputs)
    outputs = layers.DepthwiseConv2D(3, 2, use_bias=bias, name="depthwise")(outputs)
    outputs = layers.ReLU(cap, name="act1")(outputs)
    outputs = layers.Conv2D(6, 1, name="project")(outputs)
    outputs = layers.GlobalAveragePooling2D(name="pool")(outputs)
    model = keras.Model(image, layers.Dense(4, name="scores")(outputs), name="net")
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(0, 0.25, weight.shape) for weight in model.get_weights()])
    uneven = np.where(np.arange(8) % 2, 1.0, 1 / imbalance).astype(np.float32)
    for name, reader in (("expand", "depthwise"), ("depthwise", "project")):
        made, read = model.get_layer(name), model.get_layer(reader)
        is_depthwise = [isinstance(layer, layers.DepthwiseConv2D) for layer in (made, read)]
        made.kernel.assign(made.kernel * (uneven[:, None] if is_depthwise[0] else uneven))
        if bias:
            made.bias.assign(made.bias * uneven)
        read.kernel.assign(read.kernel / uneven[:, None])
    return model


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(1).uniform(-1, 1, (SAMPLES, 12, 12, 3)).astype(np.float32)}


@dataclass(frozen=True)
class Net:
    loaded: LoadedModel
    source: Source


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Net]:
    """Networks, each exported once."""

    @cache
    def export(cap: float | None, *, bias: bool) -> Net:
        loaded = load(network(cap=cap, imbalance=200.0, bias=bias))
        return Net(loaded, export_source(loaded, tmp_path_factory.mktemp("net")))

    return export


@pytest.fixture
def decibels(
    exported: Callable[..., Net], tmp_path: Path, images: dict[str, np.ndarray]
) -> Callable[..., tuple[float, tuple[str, ...]]]:
    """SNR of the int8 file's outputs to Keras, and its notes."""
    net = exported(6.0, bias=True)

    def measure(**settings: Any) -> tuple[float, tuple[str, ...]]:
        converter = find_converter("tflite").with_options(settings, where="settings")
        made = converter.convert(net.source, precision="int8", calibration=images, output=tmp_path / "made.tflite")
        run = Runner(made.path)
        answers = np.concatenate([run({"image": image[None]})[0] for image in images["image"]])
        return snr_db([net.loaded.predict(images)["scores"]], [answers]), made.notes

    return measure


def test_int8_of_uneven_channels_is_mended(decibels: Any) -> None:
    plain, _ = decibels()
    mended, _ = decibels(equalization="on")
    assert plain < 30
    assert mended > plain + 15
    chosen, notes = decibels(equalization="auto", calibration="auto")
    assert chosen > plain + 15
    assert notes[0].startswith("channels between layers equalized: ")
    assert "dB with it on samples held apart" in notes[0]
    assert notes[1].startswith("calibration by SNR on 4 samples held apart")


def test_what_measures_worse_is_not_taken(decibels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantize = conversion._quantize_file

    def worse(given: Source, *rest: Any) -> dict[str, Any]:
        reply = quantize(given, *rest)
        return {**reply, "snr_db": -1.0} if given.work.name == conversion.EQUALIZED else reply

    monkeypatch.setattr(conversion, "_quantize_file", worse)
    found, notes = decibels(equalization="auto")
    assert found < 30
    assert notes[0].startswith("channels between layers left as they are: -1.0 dB with it on samples held apart")
    assert [path.name for path in tmp_path.iterdir()] == ["made.tflite"]


@pytest.mark.parametrize(("cap", "bias"), [(6.0, True), (None, False)])
def test_the_float_file_computes_the_same(
    exported: Callable[..., Net], tmp_path: Path, images: dict[str, np.ndarray], cap: float | None, bias: bool
) -> None:
    model, output = _float_export(exported(cap, bias=bias).source), tmp_path / "equalized.tflite"
    feeds = [{"image": image[None]} for image in images["image"]]
    assert equalize(model, feeds, output) == 3
    before, after = ([run(feed)[0] for feed in feeds] for run in (Runner(model), Runner(output)))
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())
    assert model.read_bytes() != output.read_bytes()


def test_factors_of_a_depthwise_reader_make_channels_equal() -> None:
    peaks = np.array([6.0, 3.0, 0.6, 0.06, 0.0])
    found = peaks / factors(peaks, None, capped=True)
    np.testing.assert_allclose(found, [6.0, 3.0, 6.0 / HEADROOM, 6.0 / HEADROOM, 0.0], rtol=1e-6)
    assert factors(np.array([6.0, 1e-6]), None, capped=False)[1] == 1 / LARGEST_FACTOR


def test_factors_of_a_mixing_reader_are_shared_with_its_weights() -> None:
    peaks, columns = np.array([4.0, 0.25]), np.array([1.0, 1.0])
    found = factors(peaks, columns, capped=False)
    assert found[0] / found[1] == pytest.approx(4.0)  # the root of 16, of which the weights take the other
    assert (factors(peaks, columns, capped=True) <= 1).all()
    np.testing.assert_array_equal(factors(np.zeros(3), np.ones(3), capped=False), 1)


def test_a_channel_that_others_read_too_is_left(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3), name="image")
    made = layers.Conv2D(4, 1, activation="relu", name="made")(image)
    outputs = layers.Add(name="sum")([layers.Conv2D(4, 1, name="read")(made), made])
    source = export_source(load(keras.Model(image, outputs)), tmp_path)
    feeds = [{"image": np.ones((1, 8, 8, 3), np.float32)}]
    assert equalize(_float_export(source), feeds, tmp_path / "same.tflite") == 0


def test_settings_that_cannot_be(exported: Callable[..., Net], tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    converter = find_converter("tflite")
    with pytest.raises(ConfigError, match="settings: equalization is 'yes'"):
        converter.with_options({"equalization": "yes"}, where="settings")
    source, few = exported(6.0, bias=True).source, {"image": images["image"][:4]}
    chosen = converter.with_options({"equalization": "auto"}, where="settings")
    with pytest.raises(ConversionError, match='equalization = "auto" chooses by samples held apart: 4 are too few'):
        chosen.convert(source, precision="int8", calibration=few, output=tmp_path / "x.tflite")
