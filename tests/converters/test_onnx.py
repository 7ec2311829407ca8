from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module

import numpy as np
import onnx
import pytest
from edgekit_onnx import converter
from edgekit_onnx.graphs import name_in_file
from onnx import helper, numpy_helper

from edgekit.errors import ConversionError
from edgekit.tensors import TensorSpec

MODELS = ("classifier", "pair")


def run(artifact, inputs):
    """All samples in one batch through ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    assert [binding.tensor for binding in artifact.inputs] == [tensor.name for tensor in session.get_inputs()]
    assert [binding.tensor for binding in artifact.outputs] == [tensor.name for tensor in session.get_outputs()]
    values = session.run(None, {binding.tensor: inputs[binding.name] for binding in artifact.inputs})
    return {binding.name: value for binding, value in zip(artifact.outputs, values, strict=True)}


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("name", MODELS)
def test_fp32_equals_the_model(case, converted, name):
    outputs = run(converted("onnx", name, "fp32"), case(name).inputs)
    for output, expected in case(name).float_outputs.items():
        np.testing.assert_allclose(outputs[output], expected, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("precision", "least_snr_db"), [("fp16", 60), ("int8", 35)])
def test_post_training_precisions_stay_close(case, converted, snr_db, name, precision, least_snr_db):
    artifact = converted("onnx", name, precision)
    outputs = run(artifact, case(name).inputs)
    assert artifact.float_layers == ()
    for output, expected in case(name).float_outputs.items():
        assert outputs[output].dtype == np.float32
        assert snr_db(expected, outputs[output]) > least_snr_db


@pytest.mark.parametrize("name", MODELS)
def test_trained_int8_stays_close_to_the_simulation(case, converted, snr_db, name):
    artifact = converted("onnx", name, "int8", trained=True)
    outputs = run(artifact, case(name).inputs)
    assert artifact.float_layers == ()
    for output, expected in case(name).trained_outputs.items():
        assert snr_db(expected, outputs[output]) > 30  # uint8 steps became int8 steps, up to twice as wide


def test_trained_kernels_are_the_trained_integers(converted):
    stored = constants(onnx.load(converted("onnx", "classifier", "int8", trained=True).path))
    kernels = {name: values for name, values in stored.items() if values.dtype == np.int8 and values.ndim > 1}
    assert sorted(values.size for values in kernels.values()) == [72, 72, 128, 160]
    for values in kernels.values():
        assert np.abs(values.astype(int)).max() == 127


def test_names_order_and_batch_are_the_keras_ones(converted):
    artifact = converted("onnx", "pair", "fp32")
    graph = onnx.load(artifact.path).graph
    assert [tensor.name for tensor in graph.input] == ["b_left", "a_right"]
    assert [tensor.name for tensor in graph.output] == ["z_score", "a_sum"]
    assert graph.name == "pair"
    for tensor in (*graph.input, *graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_inspect_gives_a_kernel_to_the_node_that_uses_it(converted):
    artifact = converted("onnx", "classifier", "int8", trained=True)
    found = converter.inspect(artifact.path)
    kernels = {layer.name: layer for layer in found.layers if layer.sparsity is not None and layer.type != "Add"}
    assert found.inputs == (TensorSpec("image", (None, 12, 12, 1), "float32"),)
    assert found.outputs == (TensorSpec("probabilities", (None, 10), "float32"),)
    assert found.bytes == artifact.path.stat().st_size
    assert found.parameters == 72 + 8 + 72 + 8 + 128 + 16 + 160 + 10
    assert [layer.type for layer in kernels.values()] == ["Conv", "Conv", "MatMul", "MatMul"]
    assert {layer.precision for layer in kernels.values()} == {"int8"}


def test_inspect_of_float16(converted):
    found = converter.inspect(converted("onnx", "classifier", "fp16").path)
    assert {layer.precision for layer in found.layers if layer.type in ("Conv", "MatMul", "Relu")} == {"fp16"}


def test_unknown_precision_is_refused(case, tmp_path):
    with pytest.raises(ConversionError, match="onnx has no precision 'int16x8'; did you mean 'int8'"):
        converter.convert(case("pair").source, precision="int16x8", calibration=None, output=tmp_path / "x.onnx")


def test_int8_without_samples_or_training_is_refused(untrained, tmp_path):
    with pytest.raises(ConversionError, match="needs calibration samples of 'b_left', or a model trained with Quant"):
        converter.convert(untrained("pair").source, precision="int8", calibration=None, output=tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=["here", "in a worker"])
def where(request, monkeypatch):
    """Where tf2onnx runs: in this process when it has TensorFlow already."""
    import_module("tensorflow")
    if request.param == "in a worker":
        monkeypatch.delitem(sys.modules, "tensorflow")


@pytest.mark.usefixtures("where")
def test_an_operator_that_onnx_lacks_is_named(case, tmp_path):
    with pytest.raises(ConversionError, match=r"ONNX has no operator for TensorFlow's Betainc .node '.*Betainc'"):
        converter.convert(case("unsupported").source, precision="fp32", calibration=None, output=tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_bytes_are_the_same_here_and_in_a_worker(case, tmp_path, monkeypatch):
    import_module("tensorflow")
    here = exported(case("pair").source, tmp_path / "here")
    monkeypatch.delitem(sys.modules, "tensorflow")
    assert exported(case("pair").source, tmp_path / "worker") == here
    assert "tensorflow" not in sys.modules


def exported(source, folder):
    folder.mkdir()
    path = folder / "x.onnx"
    converter.convert(replace(source, work=folder), precision="fp32", calibration=None, output=path)
    return path.read_bytes()


def test_whatever_tf2onnx_raises_is_one_line(case, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise KeyError("a tensor\nof tf2onnx")

    monkeypatch.setattr("tf2onnx.convert.from_graph_def", fails)
    import_module("tensorflow")
    source = replace(case("pair").source, work=tmp_path)
    with pytest.raises(ConversionError, match=r"^converting 'pair' to ONNX: .*a tensor.*of tf2onnx.$"):
        converter.convert(source, precision="fp32", calibration=None, output=tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a model " * 40])
def test_a_foreign_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"x\.onnx: not an ONNX model") as caught:
        converter.inspect(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(converted, tmp_path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(converted("onnx", "classifier", "fp32").path.read_bytes()[:-200])
    with pytest.raises(ConversionError, match=r"cut\.onnx: not an ONNX model"):
        converter.inspect(path)


def test_a_graph_without_nodes_is_refused(tmp_path):
    path = tmp_path / "x.onnx"
    onnx.save(helper.make_model(helper.make_graph([], "nothing", [], [])), path)
    with pytest.raises(ConversionError, match="without nodes"):
        converter.inspect(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="no such file"):
        converter.inspect(tmp_path / "none.onnx")


def test_an_output_that_an_input_is_named_like_gets_a_name_of_its_own():
    assert name_in_file("y", ["x"]) == "y"
    assert name_in_file("x", ["x", "x_output"]) == "x_output_output"


@pytest.mark.parametrize(("precision", "trained"), [("fp32", False), ("fp16", False), ("int8", False), ("int8", True)])
def test_a_trace_cut_everywhere_computes_what_the_whole_file_does(case, converted, precision, trained):
    trace = converter.trace(converted("onnx", "classifier", precision, trained=trained).path)
    inputs = {trace.inputs[0].tensor: case("classifier").inputs["image"][:1]}
    whole, names = trace.run(inputs), [tensor.name for tensor in trace.tensors]
    parts = trace.cut(names, names)({**inputs, **whole})
    assert len(parts) >= len(names) - 1
    for name, value in parts.items():
        np.testing.assert_allclose(value, whole[name], atol=2e-3 if precision == "fp16" else 1e-6)


def test_the_rows_of_a_trace_are_what_is_rounded_or_branches(converted):
    trace = converter.trace(converted("onnx", "classifier", "int8").path)
    assert [tensor.operator for tensor in trace.tensors if tensor.kernel][:1] == ["Conv+Relu"]
    assert all(tensor.kernel in trace.kernels for tensor in trace.tensors if tensor.kernel)
    assert {tensor.grid.dtype for tensor in trace.tensors if tensor.grid} == {"int8"}
