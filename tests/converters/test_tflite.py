from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from edgekit_tflite import converter
from edgekit_tflite.embedding import embed
from edgekit_tflite.export_worker import explain

from edgekit.errors import ConversionError, DataError
from edgekit.metadata import ModelMetadata, TensorMetadata
from edgekit.tensors import TensorSpec

MODELS = ("classifier", "pair")


def run(artifact, inputs):
    """Every sample through the bare interpreter; floats in, floats out."""
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = Interpreter(
        str(artifact.path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    takes, gives = interpreter.get_input_details(), interpreter.get_output_details()
    assert [binding.tensor for binding in artifact.inputs] == [detail["name"] for detail in takes]
    rows = {binding.name: [] for binding in artifact.outputs}
    for index in range(len(next(iter(inputs.values())))):
        for binding, detail in zip(artifact.inputs, takes, strict=True):
            value = inputs[binding.name][index : index + 1]
            value = binding.quantization.quantize(value, binding.dtype) if binding.quantization else value
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        for binding, detail in zip(artifact.outputs, gives, strict=True):
            value = interpreter.get_tensor(detail["index"])
            rows[binding.name].append(binding.quantization.dequantize(value) if binding.quantization else value)
    return {name: np.concatenate(values) for name, values in rows.items()}


@pytest.mark.parametrize("name", MODELS)
def test_fp32_equals_the_model(case, converted, name):
    outputs = run(converted("tflite", name, "fp32"), case(name).inputs)
    for output, expected in case(name).float_outputs.items():
        np.testing.assert_allclose(outputs[output], expected, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("precision", "least_snr_db"),
    [("fp16", 60), ("dynamic-int8", 35), ("int8", 30), ("int8-float-io", 30), ("int16x8", 35)],
)
def test_post_training_precisions_stay_close(case, converted, snr_db, name, precision, least_snr_db):
    artifact = converted("tflite", name, precision)
    outputs = run(artifact, case(name).inputs)
    assert artifact.float_layers == ()
    for output, expected in case(name).float_outputs.items():
        assert snr_db(expected, outputs[output]) > least_snr_db


def test_trained_int8_equals_the_simulation_within_two_steps(case, converted):
    artifact = converted("tflite", "classifier", "int8", trained=True)
    outputs = run(artifact, case("classifier").inputs)
    (binding,) = artifact.outputs
    error = np.abs(outputs["probabilities"] - case("classifier").trained_outputs["probabilities"])
    assert artifact.inputs[0].dtype == binding.dtype == "int8"
    assert artifact.float_layers == ()
    assert error.max() <= 2.01 * binding.quantization.scale


def test_trained_int8_with_float_borders(case, converted, snr_db):
    artifact = converted("tflite", "pair", "int8-float-io", trained=True)
    outputs = run(artifact, case("pair").inputs)
    assert {binding.dtype for binding in (*artifact.inputs, *artifact.outputs)} == {"float32"}
    assert all(binding.quantization is None for binding in artifact.inputs)
    for output, expected in case("pair").trained_outputs.items():
        assert snr_db(expected, outputs[output]) > 40


def test_bindings_carry_the_keras_names(converted):
    artifact = converted("tflite", "pair", "int8")
    assert {binding.name for binding in artifact.inputs} == {"b_left", "a_right"}
    assert {binding.name for binding in artifact.outputs} == {"z_score", "a_sum"}
    assert (artifact.engine, artifact.engine_least_version) == ("litert", "1.4")


def test_variants_share_one_float_export(case, converted):
    converted("tflite", "pair", "fp32")
    export = case("pair").source.work / "float.tflite"
    made = export.stat().st_mtime_ns
    converted("tflite", "pair", "fp16")
    assert export.stat().st_mtime_ns == made


def test_inspect_counts_bytes_and_parameters(converted):
    artifact = converted("tflite", "classifier", "int8", trained=True)
    found = converter.inspect(artifact.path)
    layers = {layer.type: layer for layer in found.layers}
    assert found.inputs == (TensorSpec("image", (1, 12, 12, 1), "int8"),)
    assert found.outputs == (TensorSpec("probabilities", (1, 10), "int8"),)
    assert found.bytes == artifact.path.stat().st_size
    assert found.parameters == 72 + 8 + 72 + 8 + 128 + 16 + 160 + 10
    assert layers["CONV_2D"].precision == "int8"
    assert layers["CONV_2D"].bytes == 72 + 4 * 8
    assert layers["SOFTMAX"].sparsity is None


def test_inspect_gives_float16_constants_to_the_operator_that_uses_them(converted):
    found = converter.inspect(converted("tflite", "classifier", "fp16").path)
    assert [layer.type for layer in found.layers].count("DEQUANTIZE") == 0
    assert found.layers[0].precision == "fp16"
    assert found.layers[0].bytes == 2 * 72 + 4 * 8  # biases stay float32


@pytest.mark.parametrize("precision", ["fp32", "fp16", "dynamic-int8", "int8", "int8-float-io"])
def test_metadata_leaves_operators_constants_and_signatures_as_they_are(case, converted, tmp_path, precision):
    artifact = converted("tflite", "pair", precision)
    before = artifact.path.read_bytes()
    tensors = [TensorMetadata(binding.name, content="feature") for binding in (*artifact.inputs, *artifact.outputs)]
    card = ModelMetadata("pair", "1", None, None, None, tuple(tensors[:2]), tuple(tensors[2:]))
    path = tmp_path / "described.tflite"
    path.write_bytes(embed(before, card, where="x"))
    assert path.read_bytes().index(before) % 64 == 0
    plain, described = (Interpreter(str(file)) for file in (artifact.path, path))
    assert described.get_signature_list() == plain.get_signature_list()
    outputs, expected = run(replace(artifact, path=path), case("pair").inputs), run(artifact, case("pair").inputs)
    for name in expected:
        np.testing.assert_array_equal(outputs[name], expected[name])
    found = converter.inspect(path)
    assert found.metadata == card
    assert found.min_runtime_version == converter.inspect(artifact.path).min_runtime_version


def test_unknown_precision_is_refused_with_a_suggestion(case, tmp_path):
    with pytest.raises(ConversionError, match="tflite has no precision 'int9'; did you mean 'int8'"):
        converter.convert(case("pair").source, precision="int9", calibration=None, output=tmp_path / "x.tflite")


def test_int8_without_samples_or_training_is_refused(untrained, tmp_path):
    given = untrained("pair")
    with pytest.raises(ConversionError, match="needs calibration samples of 'a_right', or a model trained with Quant"):
        converter.convert(
            given.source,
            precision="int8",
            calibration={"b_left": given.inputs["b_left"]},
            output=tmp_path / "x.tflite",
        )
    assert list(tmp_path.iterdir()) == []


def test_calibration_of_a_wrong_shape_is_refused(untrained, tmp_path):
    given = untrained("pair")
    samples = {**given.inputs, "b_left": np.zeros((4, 7), np.float32)}
    with pytest.raises(DataError, match=r"calibration: 'b_left' has shape \(4, 7\) float32, expected \(batch, 6\)"):
        converter.convert(given.source, precision="int8", calibration=samples, output=tmp_path / "x.tflite")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_calibration_that_is_not_finite_is_refused(untrained, tmp_path, value):
    given = untrained("pair")
    spoiled = given.inputs["b_left"].copy()
    spoiled[2] = value
    with pytest.raises(DataError, match=r"calibration: 'b_left' holds NaN or infinity, first in sample 2; remove"):
        converter.convert(
            given.source,
            precision="int8",
            calibration={**given.inputs, "b_left": spoiled},
            output=tmp_path / "x.tflite",
        )
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_does_not_match_is_refused(case, converted, tmp_path):
    converted("tflite", "pair", "fp32")
    source = case("pair").source
    renamed = replace(source, outputs=(source.outputs[0], TensorSpec("other", (None, 8), "float32")))
    with pytest.raises(ConversionError, match="has the outputs a_sum, z_score, expected other, z_score"):
        converter.convert(renamed, precision="fp32", calibration=None, output=tmp_path / "x.tflite")
    reshaped = replace(source, outputs=(source.outputs[0], TensorSpec("a_sum", (None, 9), "float32")))
    with pytest.raises(ConversionError, match="output 'a_sum' has shape"):
        converter.convert(reshaped, precision="fp32", calibration=None, output=tmp_path / "x.tflite")
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_tflite_lacks_is_named(case, tmp_path):
    with pytest.raises(ConversionError, match="TFLite has no builtin operator for Betainc"):
        converter.convert(case("unsupported").source, precision="fp32", calibration=None, output=tmp_path / "x.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("x\nTF Select ops: MatrixDeterminant, Erfinv\nDetails:\n\ttf.X", "operator for MatrixDeterminant, Erfinv:"),
        ("<unknown>:0: error: loc(callsite(f[1])): 'tfl.transpose' op is bad\n<unknown>:0: note: a", "model: 'tfl.tra"),
        ("something new\nand more", "refuses the model: something new"),
    ],
)
def test_the_converter_s_page_becomes_one_line(said, line):
    assert line in explain(said)
    assert "\n" not in explain(said)


@pytest.mark.parametrize("content", [b"", b"TFL3", b"not a model " * 40])
def test_a_foreign_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match="not a TFLite file that LiteRT opens") as caught:
        converter.inspect(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_refused(converted, tmp_path, fraction):
    content = converted("tflite", "classifier", "fp32").path.read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(ConversionError, match=r"cut\.tflite: not a TFLite file"):
        converter.inspect(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="no such file"):
        converter.inspect(tmp_path / "none.tflite")


@pytest.mark.parametrize(("precision", "trained"), [("fp32", False), ("int8", False), ("int8-float-io", True)])
def test_a_trace_cut_everywhere_computes_what_the_whole_file_does(case, converted, precision, trained):
    trace = converter.trace(converted("tflite", "classifier", precision, trained=trained).path)
    inputs = {trace.inputs[0].tensor: case("classifier").inputs["image"][:1]}
    whole, names = trace.run(inputs), [tensor.name for tensor in trace.tensors]
    parts = trace.cut(names, names)({**inputs, **whole})
    assert [tensor.operator for tensor in trace.tensors][:2] == ["input", "CONV_2D"]
    assert len(parts) >= len(names) - 1  # an input is made by no operator
    for name, value in parts.items():
        np.testing.assert_array_equal(value, whole[name])


def test_a_cut_lets_the_rest_of_the_file_go_on_from_what_it_is_given(case, converted):
    trace = converter.trace(converted("tflite", "classifier", "fp32").path)
    inputs = {trace.inputs[0].tensor: case("classifier").inputs["image"][:1]}
    whole, (first, last) = trace.run(inputs), (trace.tensors[1].name, trace.tensors[-1].name)
    go_on = trace.cut([first], [last])
    np.testing.assert_allclose(go_on({**inputs, first: whole[first]})[last], whole[last], rtol=1e-6)
    assert not np.allclose(go_on({**inputs, first: 2 * whole[first]})[last], whole[last])


def test_each_of_two_outputs_has_its_own_kernel(converted):
    for precision in ("fp32", "int8", "int8-float-io"):
        trace = converter.trace(converted("tflite", "pair", precision).path)
        assert trace.kernels["output z_score"].values.shape == (3, 16)
        assert (trace.kernels["output z_score"].steps is None) == (precision == "fp32")
        assert "output a_sum" in trace.activations
        assert trace.ambiguous == ()
