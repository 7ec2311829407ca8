"""Int8 files of a model that QuantizeAware has finished compute what its simulation computes."""

from __future__ import annotations

from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgekit
from edgekit.compression.fake_quantization import trained_simulation
from edgekit.conversion import Artifact, find_converter
from edgekit.exporting import export_source
from edgekit.loading import LoadedModel, describe
from tests.conftest import Digits
from tests.converters.test_tflite import run as run_tflite
from tests.keras_models import samples, shaken


def efficient() -> Any:
    """EfficientNet and MobileNet in small: swish, a depthwise block with squeeze-excite, a residual sum."""
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Rescaling(2.0, offset=-0.5, name="rescaled")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = stem = layers.Activation("swish", name="stem_swish")(layers.BatchNormalization(name="stem_norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = layers.ReLU(6.0, name="depthwise_relu")(layers.BatchNormalization(name="depthwise_norm")(x))
    squeezed = layers.GlobalAveragePooling2D(keepdims=True, name="squeezed")(x)
    squeezed = layers.Conv2D(4, 1, activation="relu", name="reduced")(squeezed)
    excited = layers.Conv2D(8, 1, activation="sigmoid", name="excited")(squeezed)
    x = layers.Conv2D(8, 1, groups=2, name="project")(layers.Multiply(name="scaled")([x, excited]))
    x = layers.BatchNormalization(name="residual_norm")(layers.Add(name="residual")([x, stem]))
    x = layers.Activation("hard_swish", name="hard")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    return shaken(keras.Model(image, layers.Dense(5, name="logits")(x), name="efficient"))


def sequence() -> Any:
    """Conv1D in its forms, attention, LayerNormalization, GELU and Dense at rank 3."""
    x = signal = keras.Input((12, 6), name="signal")
    x = layers.Conv1D(16, 3, padding="causal", use_bias=False, name="wave")(x)
    x = layers.ReLU(name="wave_relu")(layers.BatchNormalization(name="wave_norm")(x))
    x = layers.SeparableConv1D(16, 3, padding="same", dilation_rate=2, name="separable")(x)
    attended = layers.MultiHeadAttention(2, 8, name="attention")(x, x)
    x = layers.LayerNormalization(name="level")(layers.Add(name="sum")([x, attended]))
    x = layers.Dense(16, activation="gelu", name="widen")(x)
    x = layers.GlobalAveragePooling1D(name="pooled")(x)
    return shaken(keras.Model(signal, layers.Dense(5, name="logits")(x), name="sequence"))


def memory() -> Any:
    signal = keras.Input((6, 4), name="signal")
    x = layers.Bidirectional(layers.GRU(5, name="gru"), name="both")(signal)
    return shaken(keras.Model(signal, layers.Dense(5, name="logits")(x), name="memory"))


MODELS = {"efficient": efficient, "sequence": sequence, "memory": memory}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`finished(name)`: calibrated model, inputs, the simulation's outputs and the source for converters."""

    @cache
    def make(name: str) -> tuple[LoadedModel, dict[str, np.ndarray], np.ndarray, Any]:
        loaded = describe(MODELS[name]())
        columns = samples(loaded.model, 64)
        done = edgekit.compress(loaded, edgekit.QuantizeAware(epochs=0), data=columns)
        return done, columns, simulate(done, columns), export_source(done, tmp_path_factory.mktemp(name))

    return make


def simulate(loaded: LoadedModel, columns: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(trained_simulation(loaded).model.predict(loaded.pack(columns), verbose=0))


def run(artifact: Artifact, columns: dict[str, np.ndarray]) -> np.ndarray:
    if artifact.format == "tflite":
        return next(iter(run_tflite(artifact, columns).values()))
    import onnxruntime

    session = onnxruntime.InferenceSession(str(artifact.path))
    (outputs,) = session.run(None, {binding.tensor: columns[binding.name] for binding in artifact.inputs})
    return np.asarray(outputs)


def convert(format_name: str, source: Any) -> Artifact:
    converter = find_converter(format_name)
    output = source.work / f"int8{converter.suffix}"
    return converter.convert(source, precision="int8", calibration=None, output=output)


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
@pytest.mark.parametrize("name", ["efficient", "sequence", pytest.param("memory", marks=pytest.mark.slow)])
def test_an_int8_file_agrees_with_the_simulation(finished: Any, snr_db: Any, name: str, format_name: str) -> None:
    _, columns, wanted, source = finished(name)
    artifact = convert(format_name, source)
    assert snr_db(wanted, run(artifact, columns)) > (25 if format_name == "tflite" else 22)
    operators = {name.rsplit("(", 1)[1].rstrip(")") for name in artifact.float_layers}
    if name == "efficient" or (name == "sequence" and format_name == "onnx"):
        assert artifact.float_layers == ()
    elif name == "sequence":  # what LayerNormalization is made of
        assert operators <= {"MEAN", "SQUARED_DIFFERENCE", "RSQRT", "MUL", "ADD", "SUB", "NEG"}
    else:
        assert operators & {"WHILE", "Loop"}


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_kernels_of_4_bits_go_into_an_int8_file_as_they_are(
    loaded: LoadedModel, digits: Digits, tmp_path_factory: pytest.TempPathFactory, format_name: str
) -> None:
    step = edgekit.QuantizeAware(epochs=1, bits=4, layers={"depthwise": {"bits": 2}})
    done = edgekit.compress(loaded, step, data=digits.few(640))
    artifact = convert(format_name, export_source(done, tmp_path_factory.mktemp("bits")))
    columns = {"image": digits.test["image"]}
    wanted, got = simulate(done, columns), run(artifact, columns)
    assert artifact.float_layers == ()
    assert np.mean(wanted.argmax(axis=1) == got.argmax(axis=1)) > 0.98
    assert np.abs(wanted - got).mean() < 0.01


@pytest.mark.slow
def test_shared_values_are_shared_in_the_int8_file(
    loaded: LoadedModel, digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = (edgekit.Cluster(8, epochs=0), edgekit.QuantizeAware(epochs=1))
    done = edgekit.compress(loaded, *recipe, data=digits.few(320))
    artifact = convert("tflite", export_source(done, tmp_path_factory.mktemp("shared")))
    columns = {"image": digits.test["image"]}
    wanted, got = simulate(done, columns), run(artifact, columns)
    assert np.mean(wanted.argmax(axis=1) == got.argmax(axis=1)) > 0.98
    for stored in stored_kernels(artifact):
        assert len(np.unique(np.abs(stored))) <= 8


def stored_kernels(artifact: Artifact) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(artifact.path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    kernels = [
        interpreter.tensor(detail["index"])().copy()
        for operator in interpreter._get_ops_details()
        if operator["op_name"] in ("CONV_2D", "FULLY_CONNECTED")
        for detail in interpreter.get_tensor_details()
        if detail["index"] == operator["inputs"][1]
    ]
    assert len(kernels) == 2
    return kernels
