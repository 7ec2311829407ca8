"""Embeddings in TFLite files: their tables are stored as the precision says, and rows are found as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from edgekit_tflite import converter
from edgekit_tflite.inspection import inspect_model

from edgekit.conversion import Artifact, Source
from edgekit.exporting import export_source
from edgekit.loading import LoadedModel, describe

ROWS, LENGTH, WIDTH = 200, 6, 64


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    import keras

    keras.utils.set_random_seed(0)
    tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(ROWS, WIDTH, embeddings_initializer="normal", name="words")(tokens)
    return describe(keras.Model(tokens, keras.layers.Dense(8, name="scores")(x), name="lookup"))


@pytest.fixture(scope="module")
def source(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Source:
    return export_source(loaded, tmp_path_factory.mktemp("lookup"))


def tokens(batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, ROWS, (batch, LENGTH)).astype(np.int32)


def convert(source: Source, precision: str, **options: object) -> Artifact:
    with_options = converter.with_options(options, where="test")
    name = "-".join(["lookup", precision, *options])
    return with_options.convert(source, precision=precision, calibration=None, output=source.work / f"{name}.tflite")


def run(path: Path, columns: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(str(path))
    (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(takes["index"], columns.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(takes["index"], columns)
    interpreter.invoke()
    return interpreter.get_tensor(gives["index"])


@pytest.mark.parametrize(
    ("precision", "options", "stored", "most_bits", "cosine"),
    [
        ("fp16", {}, "fp16", 16, 0.99999),
        ("dynamic-int8", {}, "int8", 8, 0.999),
        ("dynamic-int8", {"weight_only": True}, "int8", 8, 0.999),
        ("int4-weights", {}, "int4", 4, 0.97),
        ("int4-weights", {"block_size": 32}, "int4", 5, 0.97),
    ],
)
def test_the_table_is_stored_as_asked(
    loaded: LoadedModel, source: Source, precision: str, options: dict[str, object], stored: str, most_bits: int,
    cosine: float,
) -> None:  # fmt: skip
    artifact = convert(source, precision, **options)
    (lookup,) = (layer for layer in inspect_model(artifact.path).layers if layer.type == "EMBEDDING_LOOKUP")
    assert lookup.precision == stored
    assert lookup.bytes <= ROWS * WIDTH * most_bits / 8
    expected = loaded.predict({"tokens": tokens()})["scores"].ravel()
    got = run(artifact.path, tokens()).ravel()
    assert got @ expected / np.linalg.norm(got) / np.linalg.norm(expected) > cosine
    assert not list(source.work.glob("*lookups*"))


def test_weights_alone_leave_activations_in_float(source: Source) -> None:
    rounded = run(convert(source, "dynamic-int8").path, tokens())
    alone = run(convert(source, "dynamic-int8", weight_only=True).path, tokens())
    assert np.abs(rounded - alone).max() > 0  # the first quantizes what the dense layer reads, too


def test_a_layer_of_its_own_precision(source: Source) -> None:
    artifact = convert(source, "int4-weights", layers={"words": "dynamic-int8"})
    found = {layer.type: layer.precision for layer in inspect_model(artifact.path).layers}
    assert (found["EMBEDDING_LOOKUP"], found["FULLY_CONNECTED"]) == ("int8", "int4")


def test_a_dynamic_batch(loaded: LoadedModel, source: Source) -> None:
    artifact = convert(source, "dynamic-int8", dynamic_batch=True)
    expected = loaded.predict({"tokens": tokens(3)})["scores"]
    assert np.abs(run(artifact.path, tokens(3)) - expected).max() < 0.05 * np.abs(expected).max()
