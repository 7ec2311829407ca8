"""Integer precisions of models with loops and branches: recurrent layers become WHILE operators."""

from __future__ import annotations

from dataclasses import dataclass

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_tflite import TFLiteOptions, converter
from edgekit_tflite.graphs import bodies
from edgekit_tflite.inspection import inspect_model

from edgekit.conversion import Source
from edgekit.errors import ConversionError
from edgekit.exporting import export_source
from edgekit.loading import load
from tests.converters.test_tflite import run

LENGTH, FEATURES = 6, 4
# LiteRT says that keeping all tensors, which a trace is about, takes memory.
pytestmark = pytest.mark.filterwarnings("ignore:Warning. Enabling .experimental_preserve_all_tensors.:UserWarning")


@dataclass(frozen=True)
class Case:
    source: Source
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`made(model, sample shape)`: a case of 24 samples."""

    def make(model, shape):
        loaded = load(model)
        inputs = {loaded.inputs[0].name: np.random.default_rng(0).normal(0, 1, (24, *shape)).astype(np.float32)}
        ((name, samples),) = inputs.items()
        each = [loaded.predict({name: samples[n : n + 1]}) for n in range(len(samples))]  # a batch takes one branch
        outputs = {spec.name: np.concatenate([one[spec.name] for one in each]) for spec in loaded.outputs}
        return Case(export_source(loaded, tmp_path_factory.mktemp("loops")), inputs, outputs)

    return make


@pytest.fixture(scope="module")
def recurrent(made):
    """A GRU that reads both ways, then an LSTM, between dense layers."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    signal = keras.Input((LENGTH, FEATURES), name="signal")
    both = layers.Bidirectional(layers.GRU(5, return_sequences=True, name="gru"), name="both")(signal)
    last = layers.LSTM(7, name="memory")(both)
    return made(keras.Model(signal, layers.Dense(3, name="scores")(last), name="net"), (LENGTH, FEATURES))


@pytest.fixture(scope="module")
def branching(made):
    """One dense layer or another, by the sign of the mean."""
    import keras

    class Either(keras.layers.Layer):
        def build(self, _):
            self.tables = [
                self.add_weight(shape=(8, 8), initializer="glorot_normal", name=f"table_{n}") for n in range(2)
            ]

        def call(self, x):
            first, second = self.tables
            return keras.ops.cond(keras.ops.mean(x) > 0, lambda: keras.ops.matmul(x, first), lambda: x @ second)

    keras.utils.set_random_seed(0)
    facts = keras.Input((8,), name="facts")
    mixed = Either(name="either")(keras.layers.Dense(8, activation="tanh", name="first")(facts))
    return made(keras.Model(facts, keras.layers.Dense(3, name="scores")(mixed), name="net"), (8,))


def convert(case, precision, path, **settings):
    chosen = converter.with_options(TFLiteOptions(**settings), where="settings")
    return chosen.convert(case.source, precision=precision, calibration=case.inputs, output=path / "x.tflite")


def decibels(case, artifact):
    ((name, expected),) = case.outputs.items()
    noise = np.sum(np.square(expected - run(artifact, case.inputs)[name]))
    return 10 * np.log10(np.sum(np.square(expected)) / noise)


def kernels(artifact):
    """The stored types of all dense kernels, those inside of loops and branches too."""
    return {layer.precision for layer in inspect_model(artifact.path).layers if layer.type == "FULLY_CONNECTED"}


@pytest.mark.parametrize(
    ("precision", "border"), [("int8", "int8"), ("int8-float-io", "float32"), ("int16x8", "int16")]
)
def test_a_recurrent_model_has_int8_weights_inside_its_loops(recurrent, tmp_path, precision, border):
    artifact = convert(recurrent, precision, tmp_path)
    assert decibels(recurrent, artifact) > 25
    assert {binding.dtype for binding in (*artifact.inputs, *artifact.outputs)} == {border}
    assert kernels(artifact) == {"int8"}
    assert "net_1/memory_1/while (WHILE)" in artifact.float_layers
    assert any("memory_1/while/lstm_cell_1/Tanh (TANH)" in layer for layer in artifact.float_layers)
    assert not any("scores" in layer for layer in artifact.float_layers)
    (note,) = artifact.notes
    assert note == (
        "inside backward_gru, forward_gru, memory activations are float32, with int8 weights in FULLY_CONNECTED: "
        "LiteRT hands floats to loops and branches"
    )


def test_a_branching_model_likewise(branching, tmp_path):
    artifact = convert(branching, "int8", tmp_path)
    assert decibels(branching, artifact) > 25
    assert kernels(artifact) == {"int8"}
    assert "net_1/either_1/cond (IF)" in artifact.float_layers
    (note,) = artifact.notes
    assert note.startswith("inside either activations are float32, with int8 weights in FULLY_CONNECTED: ")


def test_precisions_of_float_activations_reach_into_loops_as_before(recurrent, tmp_path):
    artifact = convert(recurrent, "dynamic-int8", tmp_path)
    assert decibels(recurrent, artifact) > 25
    assert (kernels(artifact), artifact.float_layers, artifact.notes) == ({"int8"}, (), ())


def test_a_loop_that_is_to_stay_float_has_float_weights(recurrent, tmp_path):
    artifact = convert(recurrent, "int8", tmp_path, keep_float=("memory", "both"))
    assert kernels(artifact) == {"fp32", "int8"}
    assert decibels(recurrent, artifact) > decibels(recurrent, convert(recurrent, "int8", tmp_path))


def test_an_algorithm_that_runs_step_by_step_is_refused(recurrent, tmp_path):
    message = "'gptq' cannot measure what goes on inside backward_gru, forward_gru, memory: choose another algorithm"
    with pytest.raises(ConversionError, match=message):
        convert(recurrent, "dynamic-int8", tmp_path, algorithm="gptq")
    assert list(tmp_path.iterdir()) == []


def test_a_trace_shows_what_loops_give_to_others(recurrent, tmp_path):
    trace = converter.trace(convert(recurrent, "fp32", tmp_path).path)
    values = trace.run({trace.inputs[0].tensor: recurrent.inputs["signal"][:1]})
    loops = [tensor for tensor in trace.tensors if tensor.operator == "WHILE"]
    assert len(loops) == 3  # the whole sequence of each; its last states and counters are read by nobody
    assert all(np.any(values[tensor.name]) for tensor in loops)


def test_a_loop_that_keras_unrolls_is_integers_but_for_what_nobody_reads(made, tmp_path):
    """Its first step reads a state of zeros, so that one quarter of what it splits is read by nobody."""
    import keras

    keras.utils.set_random_seed(0)
    signal = keras.Input((LENGTH, FEATURES), name="signal")
    last = keras.layers.LSTM(7, unroll=True, name="memory")(signal)
    unrolled = made(keras.Model(signal, keras.layers.Dense(3, name="scores")(last), name="net"), (LENGTH, FEATURES))
    artifact = convert(unrolled, "int8", tmp_path)
    assert decibels(unrolled, artifact) > 20
    assert artifact.float_layers == ("net_1/memory_1/lstm_cell_1/split (SPLIT)",)  # the quarter stays float32
    assert (kernels(artifact), artifact.notes) == ({"int8"}, ())


def test_bodies_are_what_no_composite_operator_runs(tmp_path):
    def operator(options):
        made = schema.OperatorT()
        made.builtinOptions2Type = schema.BuiltinOptions2.StableHLOCompositeOptions
        made.builtinOptions2 = options
        return made

    def graph(name, *operators):
        made, tensor = schema.SubGraphT(), schema.TensorT()
        tensor.name, made.tensors, made.inputs, made.outputs = name, [tensor], [0], [0]
        made.operators = list(operators)
        return made

    composite = schema.StableHLOCompositeOptionsT()
    composite.decompositionSubgraphIndex = 2
    model = schema.ModelT()
    model.subgraphs = [graph("main", operator(composite)), graph("loop"), graph("composite")]
    builder = flatbuffers.Builder(64)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "x.tflite"
    path.write_bytes(bytes(builder.Output()))
    (body,) = bodies(path)
    assert (body.number, body.inputs, body.outputs) == (1, ("loop",), ("loop",))
