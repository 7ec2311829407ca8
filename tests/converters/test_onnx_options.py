"""What a user may say about an ONNX file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from edgekit_onnx import ONNXOptions, conversion, converter
from edgekit_onnx.layout import take_nchw
from edgekit_onnx.running import run_outputs
from onnx import helper

from edgekit.converting import _convert
from edgekit.data import Data
from edgekit.errors import ConfigError, ConversionError
from edgekit.planning import PlannedVariant
from tests.converters.test_onnx_int8 import model


@pytest.fixture
def make(untrained, tmp_path):
    """`make(name, precision, **settings)`: the artifact."""

    def convert(name, precision, **settings):
        given = untrained(name)
        chosen = converter.with_options(settings, where="settings")
        output = tmp_path / f"{precision}.onnx"
        return chosen.convert(given.source, precision=precision, calibration=given.inputs, output=output)

    return convert


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"laoyut": "nchw"}, "settings: unknown key 'laoyut'; did you mean 'layout'"),
        ({"layout": "nhcw"}, "settings: layout is 'nhcw'; did you mean 'nhwc'"),
        ({"batch": "four"}, "settings: batch is 'four'; known: dynamic, static"),
        ({"batch": 8}, "settings: batch is 8, expected dynamic or static: a dynamic file takes 8 samples at once too"),
        ({"batch": "8"}, "settings: batch is 8, expected dynamic or static: .* TensorRT, say them in profiles"),
        ({"opset": 13}, "settings: opset is 13, expected 17 or 18"),
        ({"opset": "18"}, "settings: opset is '18', expected a whole number"),
        ({"calibration": "entrophy"}, "settings: calibration is 'entrophy'; did you mean 'entropy'"),
        ({"calibration": "mse", "percentile": 99.0}, 'settings: percentile needs calibration = "percentile" or "auto"'),
        ({"percentile": 40.0}, "settings: percentile is 40, expected more than 50"),
    ],
)
def test_a_setting_that_is_not_known_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        converter.with_options(settings, where="settings")


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4-weights"])
def test_a_model_beyond_one_file_is_refused_before_anything_is_made(untrained, tmp_path, monkeypatch, precision):
    given = untrained("pair")
    monkeypatch.setattr(conversion, "MOST_BYTES", 1000)
    message = rf"'.*' has [\d,]+ bytes of float weights, and {precision} is made from one .* 1,000: convert it to fp32"
    with pytest.raises(ConversionError, match=message):
        converter.convert(given.source, precision=precision, calibration=given.inputs, output=tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_options_may_be_an_object():
    assert converter.with_options(ONNXOptions(opset=17), where="x").options.opset == 17


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_channels_first_static_batch_and_opset(make, case, precision, snr_db):
    import onnxruntime

    settings = {"layout": "nchw", "batch": "static", "opset": 17}
    artifact = make("classifier", precision, **settings)
    stored = onnx.load(artifact.path)
    assert [item.version for item in stored.opset_import if not item.domain] == [17]
    session = onnxruntime.InferenceSession(str(artifact.path))
    assert session.get_inputs()[0].shape == [1, 1, 12, 12]
    assert session.get_outputs()[0].shape == [1, 10]
    images, wanted = case("classifier").inputs["image"], case("classifier").float_outputs["probabilities"]
    got = [session.run(None, {"image": image.transpose(2, 0, 1)[None]})[0] for image in images]
    assert snr_db(wanted, np.concatenate(got)) > {"fp32": 80, "fp16": 50, "int8": 30}[precision]


def test_turning_an_image_twice_is_turning_it_not_at_all():
    """The Transpose that a convolution starts with goes; other readers get the image as it was."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["turned"], name="turn", perm=[0, 3, 1, 2]),
        helper.make_node("Relu", ["turned"], ["y"], name="first"),
        helper.make_node("Neg", ["image"], ["z"], name="second"),
    ]
    shapes = {"image": ["batch", 4, 5, 3], "y": ["batch", 3, 4, 5], "z": ["batch", 4, 5, 3]}
    network = model(nodes, {}, {"image": shapes.pop("image")}, shapes)
    image = np.random.default_rng(0).normal(0, 1, (1, 4, 5, 3)).astype(np.float32)
    wanted = run_outputs(network, [{"image": image}], where="x")
    assert take_nchw(network) == ("image",)
    assert [(node.op_type, *node.input) for node in network.graph.node] == [
        ("Transpose", "image"), ("Relu", "image"), ("Neg", "image_nhwc"),
    ]  # fmt: skip
    onnx.checker.check_model(network, full_check=True)
    for one, other in zip(
        wanted, run_outputs(network, [{"image": image.transpose(0, 3, 1, 2)}], where="x"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_channels_first_are_for_images(make):
    with pytest.raises(ConversionError, match="layout 'nchw' is for images: no input has the four dimensions"):
        make("pair", "fp32", layout="nchw")


def test_a_bundle_holds_no_file_that_takes_channels_first(untrained):
    given = untrained("classifier")
    planned = PlannedVariant("onnx", "fp32", ("jetson-orin-nano",), ())
    chosen = converter.with_options({"layout": "nchw"}, where="settings")
    with pytest.raises(ConversionError, match="onnx-fp32: its input image takes channels first, and a bundle's inputs"):
        _convert(given.source, planned, chosen, Data(given.inputs, None, "samples"))


def test_settings_of_int8_are_not_lost_on_others(make, case, tmp_path):
    assert make("pair", "fp32", calibration="mse").notes == ("calibration: means nothing for fp32",)
    with pytest.raises(ConversionError, match="keeps the ranges that QuantizeAware trained, so calibration cannot app"):
        converter.with_options({"calibration": "mse"}, where="x").convert(
            case("pair").source, precision="int8", calibration=None, output=tmp_path / "x.onnx"
        )


def test_layers_stay_float_by_their_keras_names(untrained, tmp_path):
    given, names = untrained("classifier"), ("dense_hidden", "dense_logits")
    chosen = converter.with_options({"keep_float": ["*"], "calibration": "min-max"}, where="x")
    with pytest.raises(ConversionError, match=r"keep_float '\*' matches no layer with a kernel in the ONNX graph"):
        chosen.convert(
            replace(given.source, layers=names),
            precision="int8", calibration=given.inputs, output=tmp_path / "x.onnx",
        )  # fmt: skip
