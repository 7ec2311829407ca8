"""TFLite's settings: what they do to a file, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from edgekit_tflite import TFLiteOptions, converter
from edgekit_tflite.inspection import inspect_model

from edgekit.errors import ConfigError, ConversionError
from tests.converters.test_tflite import run


@pytest.fixture(scope="session")
def named(untrained):
    """A model for post-training quantization that knows its layers, as `export_source` hands it over."""
    return lambda name, *layers: replace(untrained(name), source=replace(untrained(name).source, layers=layers))


def precisions(artifact):
    return {layer.type: layer.precision for layer in inspect_model(artifact.path).layers}


def test_int4_weights_say_what_stays_float(case, untrained, made, snr_db):
    artifact = made(untrained("classifier"), "int4-weights")
    assert precisions(artifact)["CONV_2D"] == precisions(artifact)["FULLY_CONNECTED"] == "int4"
    assert [layer.split()[-1] for layer in artifact.float_layers] == ["(DEPTHWISE_CONV_2D)"]
    outputs = run(artifact, case("classifier").inputs)
    assert snr_db(case("classifier").float_outputs["probabilities"], outputs["probabilities"]) > 15


def test_an_operator_type_has_a_precision_of_its_own(untrained, made):
    artifact = made(untrained("classifier"), "int4-weights", ops={"DEPTHWISE_*": "dynamic-int8"})
    assert precisions(artifact)["DEPTHWISE_CONV_2D"] == "int8"
    assert artifact.float_layers == ()


def test_the_last_pattern_counts(untrained, made):
    artifact = made(untrained("classifier"), "int8-float-io", ops={"*": "fp32", "FULLY_CONNECTED": "int8"})
    found = precisions(artifact)
    assert (found["FULLY_CONNECTED"], found["CONV_2D"], found["SOFTMAX"]) == ("int8", "fp32", "fp32")


def test_sixteen_bit_activations_in_an_int8_file(case, untrained, made, snr_db):
    artifact = made(untrained("classifier"), "int8", ops={"FULLY_CONNECTED": "int16x8"})
    outputs = run(artifact, case("classifier").inputs)
    assert artifact.inputs[0].dtype == "int8"
    assert snr_db(case("classifier").float_outputs["probabilities"], outputs["probabilities"]) > 30


@pytest.mark.parametrize("algorithm", ["mse", "octav", "gptq", "hadamard"])
def test_algorithms_stay_close(case, untrained, made, snr_db, algorithm):
    outputs = run(made(untrained("classifier"), "dynamic-int8", algorithm=algorithm), case("classifier").inputs)
    assert snr_db(case("classifier").float_outputs["probabilities"], outputs["probabilities"]) > 20


def test_gptq_rounds_better_than_to_nearest(case, untrained, made, snr_db):
    error = {}
    for algorithm in ("min-max", "gptq"):
        outputs = run(made(untrained("classifier"), "int4-weights", algorithm=algorithm), case("classifier").inputs)
        error[algorithm] = snr_db(case("classifier").float_outputs["probabilities"], outputs["probabilities"])
    assert error["gptq"] > error["min-max"]


@pytest.mark.parametrize("method", ["percentile", "mse", "moving-average"])
def test_calibration_methods_choose_ranges_within_the_extremes(untrained, made, converted, method):
    clipped = made(untrained("classifier"), "int8", calibration=method).inputs[0].quantization
    whole = converted("tflite", "classifier", "int8").inputs[0].quantization
    assert 0.5 * whole.scale < clipped.scale <= whole.scale


def test_blocks_are_said_where_they_cannot_be(untrained, made):
    (note,) = made(untrained("classifier"), "int4-weights", block_size=64).notes
    assert note.startswith("no blocks of 64 in ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ops": {"CONV2D": "fp32"}}, "ops 'CONV2D' matches no operator type of this model; did you mean 'CONV_2D'?"),
        ({"ops": {"SOFTMAX": "int4-weights"}}, "ops 'SOFTMAX': there is no int4-weights for SOFTMAX; choose another"),
        ({"keep_float": ["nothing"]}, "keep_float 'nothing' matches no layer that has an operator of its own"),
        (
            {"algorithm": "hadamard"},
            "'hadamard' fits no operator of this model in int8: choose another algorithm; it is for dyn",
        ),
    ],
)
def test_settings_that_do_not_fit_the_model(untrained, made, tmp_path, settings, message):
    with pytest.raises(ConversionError) as caught:
        made(untrained("classifier"), "int8", **settings)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_flot": ["x"]}, "settings: unknown key 'keep_flot'; did you mean 'keep_float'?"),
        ({"keep_float": "x"}, "settings: keep_float is 'x', expected a list"),
        ({"layers": {"x": "int9"}}, "settings: layers.x is 'int9'; did you mean 'int8'?"),
        ({"ops": {"*": "int8-float-io"}}, "settings: ops.* is 'int8-float-io'"),
        ({"algorithm": "gpt"}, "settings: algorithm is 'gpt'; did you mean 'gptq'?"),
        ({"calibration": "minmax"}, "settings: calibration is 'minmax'; did you mean 'min-max'?"),
        ({"percentile": 99.9}, 'settings: percentile needs calibration = "percentile", got "min-max"'),
        (
            {"calibration": "percentile", "percentile": 0.99},
            "percentile is 0.99, expected more than 50 and at most 100",
        ),
        ({"block_size": 48}, "settings: block_size is 48, expected 32, 64, 128, 256"),
        ({"block_size": 32, "algorithm": "mse"}, "settings: algorithm 'mse' has no blocks"),
    ],
)
def test_a_mistake_in_the_settings(settings, message):
    with pytest.raises(ConfigError) as caught:
        converter.with_options(settings, where="settings")
    assert message in str(caught.value)


def test_settings_may_come_as_a_value():
    options = TFLiteOptions(keep_float=("head",), calibration="percentile", percentile=99.9)
    assert converter.with_options(options, where="").options == options


def test_trained_ranges_are_not_replaced(case, made):
    with pytest.raises(
        ConversionError, match="keeps the ranges that QuantizeAware trained, so calibration cannot apply"
    ):
        made(case("classifier"), "int8", calibration="mse")


def test_float_files_say_that_settings_are_for_integers(untrained, made):
    (note,) = made(untrained("classifier"), "fp16", keep_float=["x"]).notes
    assert note == "keep_float: for integer variants, this one is fp16 throughout"


def test_trained_activations_get_no_sixteen_bits_for_nothing(case, made):
    artifact = made(case("classifier"), "int16x8")
    assert np.all([binding.dtype == "int16" for binding in (*artifact.inputs, *artifact.outputs)])
