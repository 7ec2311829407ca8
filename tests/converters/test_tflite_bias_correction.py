"""Bias correction, and calibration by what measures best on samples held apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edgekit_tflite.activations import activations
from edgekit_tflite.bias_correction import ChannelMeans, correct_biases
from edgekit_tflite.conversion import _float_export
from edgekit_tflite.reading import TFLiteOperator, TFLiteTensor, read_model

from edgekit.errors import ConversionError
from tests.converters.test_tflite import run


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_bias_correction_brings_int8_nearer_to_float(case, untrained, made, snr_db, precision):
    decibels = {}
    for corrected in (True, False):
        artifact = made(untrained("classifier"), precision, bias_correction=corrected)
        outputs = run(artifact, case("classifier").inputs)
        decibels[corrected] = snr_db(case("classifier").float_outputs["probabilities"], outputs["probabilities"])
    assert decibels[True] > decibels[False]


def layer(path: Path, kind: str) -> TFLiteOperator:
    """The first operator of a type that has a bias."""
    found = [operator for operator in read_model(path).operators if operator.type == kind]
    return next(operator for operator in found if len(operator.inputs) == 3)


def real(tensor: TFLiteTensor) -> np.ndarray:
    """The numbers that a kernel stands for."""
    values = tensor.data.view(tensor.dtype).reshape(tensor.shape).astype(float)
    shape = [1] * values.ndim
    shape[tensor.axis] = -1
    return values * np.reshape(tensor.scales or (1.0,), shape)


@pytest.fixture
def mean_inputs():
    """`mean_inputs(case, kind)`: of each channel that the first operator of a type reads, over all samples."""

    def measure(given, kind):
        model = _float_export(given.source)
        (name,), (images,) = given.source.signature_names(), given.inputs.values()
        means = ChannelMeans(model)
        for values in activations(model, [{name: image[None]} for image in images]):
            for tensor, array in values:
                means.add(tensor, array)
        return means.means()[layer(model, kind).inputs[0].name]

    return measure


def outputs_of(kind: str, kernel: np.ndarray, means: np.ndarray) -> np.ndarray:
    """What a layer without padding makes of the means, one output channel after the other."""
    if kind == "DEPTHWISE_CONV_2D":  # (1, height, width, channels): one for each input channel, or two
        times = kernel.shape[-1] // len(means)
        return np.array([kernel[..., channel].sum() * means[channel // times] for channel in range(kernel.shape[-1])])
    found = []
    for channel, weights in enumerate(kernel.reshape(len(kernel), -1)):
        read = np.resize(means, max(len(means), len(weights)))  # a flattened image has each channel many times
        first = len(weights) * (channel // 4) if len(weights) < len(means) else 0  # two groups of four
        found.append(read[first : first + len(weights)] @ weights)
    return np.array(found)


@pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve_all_tensors`")  # which is what is wanted
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("classifier", "FULLY_CONNECTED"),
        ("classifier", "DEPTHWISE_CONV_2D"),
        ("grouped", "CONV_2D"),
        ("grouped", "DEPTHWISE_CONV_2D"),
        ("grouped", "FULLY_CONNECTED"),
    ],
)
def test_a_layers_mean_output_is_that_of_the_float_layer(untrained, made, mean_inputs, name, kind):
    """But for the borders of what is padded, and for the rounding of the bias."""
    given = untrained(name)
    ops = {"*": "fp32", kind: "int8"}
    plain = layer(made(given, name="plain", bias_correction=False, ops=ops).path, kind)
    corrected = layer(made(given, name="corrected", ops=ops).path, kind)
    moved, biases = (operator.inputs[2].data.view("int32").astype(int) for operator in (corrected, plain))
    error = real(plain.inputs[1]) - real(layer(_float_export(given.source), kind).inputs[1])
    expected = -outputs_of(kind, error, mean_inputs(given, kind))
    steps = np.array(plain.inputs[2].scales)
    np.testing.assert_allclose((moved - biases) * steps, expected, atol=max(steps))
    assert np.any(moved != biases)


def test_a_layer_whose_inputs_overflow_has_no_means(untrained):
    model = _float_export(untrained("classifier").source)
    reads = layer(model, "FULLY_CONNECTED").inputs[0]
    means = ChannelMeans(model)
    means.add(reads.name, np.full(reads.shape, np.inf, np.float32))
    assert means.means() == {}


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
