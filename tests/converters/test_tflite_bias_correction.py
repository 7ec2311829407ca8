"""Bias correction, and calibration by what measures best on samples held apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edgekit_tflite import converter
from edgekit_tflite.bias_correction import channel_means, correct_biases
from edgekit_tflite.conversion import _float_export
from edgekit_tflite.reading import TFLiteOperator, read_model

from edgekit.errors import ConversionError
from tests.converters.test_tflite import run


@pytest.fixture
def made(tmp_path):
    """`made(case, precision, **settings)`: the artifact."""

    def convert(given, precision="int8", name="made", **settings):
        return converter.with_options(settings, where="settings").convert(
            given.source, precision=precision, calibration=given.inputs, output=tmp_path / f"{name}.tflite"
        )

    return convert


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_bias_correction_brings_int8_nearer_to_float(case, untrained, made, snr_db, precision):
    decibels = {}
    for corrected in (True, False):
        artifact = made(untrained("classifier"), precision, bias_correction=corrected)
        outputs = run(artifact, case("classifier").inputs)
        decibels[corrected] = snr_db(case("classifier").float_outputs["probabilities"], outputs["probabilities"])
    assert decibels[True] > decibels[False]


def dense(path: Path) -> TFLiteOperator:
    """The first dense layer with a bias."""
    dense = [operator for operator in read_model(path).operators if operator.type == "FULLY_CONNECTED"]
    return next(operator for operator in dense if len(operator.inputs) == 3)


@pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve_all_tensors`")  # which is what is wanted
def test_a_layers_mean_output_is_that_of_the_float_layer(untrained, made):
    """The dense layer reads no padding, so that its correction is exact but for the rounding of the bias."""
    given = untrained("classifier")
    ops = {"*": "fp32", "FULLY_CONNECTED": "int8"}
    plain = dense(made(given, name="plain", bias_correction=False, ops=ops).path)
    corrected = dense(made(given, name="corrected", ops=ops).path)
    model = _float_export(given.source)
    (name,), (images,) = given.source.signature_names(), given.inputs.values()
    means = channel_means(model, [{name: image[None]} for image in images])[dense(model).inputs[0].name]
    moved, biases = (operator.inputs[2].data.view("int32").astype(int) for operator in (corrected, plain))
    kernel, whole = plain.inputs[1], dense(model).inputs[1]
    steps = np.array(kernel.scales)
    error = kernel.data.view("int8").reshape(kernel.shape) * steps[:, None]
    error = (error - whole.data.view("float32").reshape(whole.shape)) @ means
    np.testing.assert_allclose((moved - biases) * plain.inputs[2].scales, -error, atol=max(plain.inputs[2].scales))
    assert np.any(moved != biases)


def test_nothing_is_corrected_without_means(untrained, made, tmp_path):
    artifact = made(untrained("classifier"), bias_correction=False)
    before = artifact.path.read_bytes()
    output = tmp_path / "same.tflite"
    assert correct_biases(artifact.path, _float_export(untrained("classifier").source), {}, output) == 0
    assert output.read_bytes() == before


def test_auto_keeps_what_measures_best_on_samples_held_apart(case, untrained, made, snr_db):
    artifact = made(untrained("classifier"), calibration="auto")
    (note,) = artifact.notes
    assert note.startswith(
        f"calibration by SNR on {-(-len(case('classifier').inputs['image']) // 4)} samples held apart:"
    )
    shown = [float(part.removesuffix(" dB").rpartition(" ")[2]) for part in note.split(": ")[1].split(", ")]
    assert len(shown) == 8
    assert shown == sorted(shown, reverse=True)
    outputs = run(artifact, case("classifier").inputs)
    assert snr_db(case("classifier").float_outputs["probabilities"], outputs["probabilities"]) > shown[-1]


def test_auto_needs_samples_to_hold_apart(untrained, made):
    given = untrained("classifier")
    few = replace(given, inputs={name: array[:7] for name, array in given.inputs.items()})
    with pytest.raises(ConversionError, match=r"by samples held apart: 7 are too few, give 8"):
        made(few, calibration="auto")
