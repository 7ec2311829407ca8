"""Files whose inputs can be resized to any batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from edgekit_tflite import TFLiteOptions, converter
from edgekit_tflite.resizing_worker import resize

from edgekit.errors import ConversionError
from edgekit.metadata import ModelMetadata, TensorMetadata

BATCH = 5
NOTE = "dynamic batch: resized to 3, where each sample gave what it gives alone"


@pytest.fixture
def made(tmp_path):
    """`made(case, precision)`: the artifact of a dynamic batch."""

    def convert(given, precision):
        return converter.with_options(TFLiteOptions(dynamic_batch=True), where="settings").convert(
            given.source, precision=precision, calibration=given.inputs, output=tmp_path / "made.tflite"
        )

    return convert


def outputs(path, inputs, artifact):
    """By name, as they are stored, of all samples at once."""
    interpreter = Interpreter(str(path))
    details = {detail["name"]: detail for detail in interpreter.get_input_details()}
    arrays = {}
    for binding in artifact.inputs:
        array = inputs[binding.name]
        arrays[binding.tensor] = (
            array if binding.quantization is None else binding.quantization.quantize(array, binding.dtype)
        )
        interpreter.resize_tensor_input(details[binding.tensor]["index"], array.shape, strict=True)
    interpreter.allocate_tensors()
    for name, array in arrays.items():
        interpreter.set_tensor(details[name]["index"], array)
    interpreter.invoke()
    return {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()}


def assert_samples_stay_what_they_are(artifact, inputs):
    """A batch of five, resized, against five runs of the file as it opens."""
    inputs = {name: array[:BATCH] for name, array in inputs.items()}
    alone = [
        outputs(artifact.path, {name: array[row : row + 1] for name, array in inputs.items()}, artifact)
        for row in range(BATCH)
    ]
    for name, array in outputs(artifact.path, inputs, artifact).items():
        assert len(array) == BATCH
        np.testing.assert_allclose(array, np.concatenate([one[name] for one in alone]), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("classifier", "fp32"), ("classifier", "dynamic-int8"), ("classifier", "int8"), ("pair", "int8")],
)
def test_a_batch_gives_what_its_samples_give_alone(case, untrained, made, name, precision):
    artifact = made(untrained(name), precision)
    assert artifact.notes[-1] == NOTE
    assert [spec.shape[0] for spec in converter.inspect(artifact.path).inputs] == [1] * len(artifact.inputs)
    assert_samples_stay_what_they_are(artifact, case(name).inputs)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8-float-io", "int16x8", "int4-weights"])
def test_the_other_precisions_take_a_batch_too(case, untrained, made, precision):
    assert_samples_stay_what_they_are(made(untrained("classifier"), precision), case("classifier").inputs)


def test_trained_ranges_and_metadata_take_a_batch_too(case, made):
    given = case("classifier")
    card = ModelMetadata(
        "classifier",
        "1",
        None,
        None,
        None,
        (TensorMetadata("image", content="feature"),),
        (TensorMetadata("probabilities", content="feature"),),
    )
    artifact = made(replace(given, source=replace(given.source, metadata=card)), "int8")
    assert converter.inspect(artifact.path).metadata == card
    assert_samples_stay_what_they_are(artifact, given.inputs)


def test_files_of_both_kinds_share_no_export(converted, untrained, made):
    made(untrained("classifier"), "fp32")
    converted("tflite", "classifier", "fp32")
    work = untrained("classifier").source.work
    assert (work / "float.tflite").read_bytes() != (work / "dynamic" / "float.tflite").read_bytes()


@pytest.mark.slow
def test_a_given_file_is_resized_when_it_was_made_for_it(untrained, converted, made, tmp_path):
    given = untrained("classifier")
    float_file = made(given, "fp32").path.rename(tmp_path / "float.tflite")
    again = replace(given, source=replace(given.source, float_model=float_file, work=tmp_path / "work"))
    assert_samples_stay_what_they_are(made(again, "int8"), given.inputs)
    fixed = replace(given.source, float_model=converted("tflite", "classifier", "fp32").path, work=tmp_path / "other")
    with pytest.raises(ConversionError, match=r"does not take another batch than 1: .*; leave dynamic_batch out$"):
        made(replace(given, source=fixed), "int8")


def test_a_model_that_mixes_the_samples_of_a_batch_is_refused(untrained, made, tmp_path):
    with pytest.raises(ConversionError) as caught:
        made(untrained("mixing"), "fp32")
    message = str(caught.value)
    assert message.startswith("the TFLite file of 'mixing' does not take another batch than 1: at a batch of 3, output")
    assert message.endswith("is not what 3 samples give one by one; leave dynamic_batch out")
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_a_dynamic_batch_lacks_says_so(untrained, made):
    with pytest.raises(ConversionError, match=r"^with a dynamic batch, .* Betainc: .*; or leave dynamic_batch out$"):
        made(untrained("unsupported"), "fp32")


def test_the_worker_says_what_a_fixed_file_refuses(converted):
    reply = resize({"path": str(converted("tflite", "pair", "fp32").path)})
    assert reply["batch"] == 3
    assert "ResizeInputTensorStrict" in str(reply["problem"])
    assert "\n" not in str(reply["problem"])


def test_a_dynamic_batch_is_no_setting_of_integers():
    assert TFLiteOptions(dynamic_batch=True).settings() == ()
    assert TFLiteOptions(dynamic_batch=True, algorithm="mse").settings() == ("algorithm",)
