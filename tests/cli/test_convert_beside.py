"""Models whose weights one protocol buffer cannot hold: written as an `.onnx` file with a file beside it.

The limit is lowered here; tests/converters/test_onnx_large.py has a model beyond the real one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from edgekit_onnx import conversion, converter, lint_worker, reading
from edgekit_onnx.reading import read_model

from edgekit.converting import _convert
from edgekit.data import Data
from edgekit.errors import ConversionError
from edgekit.exporting import export_source
from edgekit.files import atomic, place_beside
from edgekit.given import saved_model_source
from edgekit.loading import load
from edgekit.planning import PlannedVariant
from tests.conftest import TorchDigits
from tests.disk import no_space_beyond
from tests.pytorch_files import torch_model, with_outside_weights

Run = Callable[..., Any]

WORDS, LENGTH, WIDTH = 1100, 5, 256
MOST = 5_000_000  # all weights have more, those that stay inside less
MATRICES = {"table/embeddings", "up/kernel", "attention/query/kernel", "scores/kernel"}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Matrices that are looked up, multiplied with and reshaped; a large one in a loop, and one of a convolution."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(7)
    tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
    hidden = layers.Embedding(WORDS, WIDTH, name="table")(tokens)
    hidden += layers.MultiHeadAttention(4, WIDTH, name="attention")(hidden, hidden)
    hidden = layers.Dense(1024, activation="gelu", name="up")(hidden)
    hidden = layers.Conv1D(128, 2, name="narrow")(hidden)
    hidden = layers.LSTM(256, name="memory")(hidden)
    scores = layers.Dense(1024, use_bias=False, name="scores")(hidden)
    path = tmp_path_factory.mktemp("large") / "large.keras"
    keras.Model(tokens, scores, name="large").save(path)
    return path


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "MOST_BYTES", MOST)


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, WORDS, (4, LENGTH)).astype(np.int32)


def outputs(path: Path, tokens: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: tokens})[0])


def places(path: Path) -> dict[str, dict[str, str]]:
    """Where the tensors outside of a file are, by their names."""
    graph = onnx.load(str(path), load_external_data=False).graph
    found = {tensor.name: {item.key: item.value for item in tensor.external_data} for tensor in graph.initializer}
    return {name: place for name, place in found.items() if place}


def test_large_matrices_in_one_file(
    edgekit: Run, large: Path, tokens: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go around tf2onnx, and have their variables' names."""
    seen, around = tmp_path / "seen.onnx", tmp_path / "around.onnx"
    for path in (seen, around):
        ended = edgekit("convert", large, "--to", "onnx", "-o", path)
        assert ended.exit_code == 0, ended.stderr
        monkeypatch.setattr(conversion, "LARGE_BYTES", MOST)
    assert sorted(tmp_path.iterdir()) == [around, seen]
    names = [{tensor.name for tensor in onnx.load(path).graph.initializer} for path in (seen, around)]
    assert [MATRICES & found for found in names] == [set(), MATRICES]
    np.testing.assert_allclose(outputs(around, tokens), outputs(seen, tokens), atol=1e-6)


@pytest.mark.usefixtures("lowered")
def test_large_matrices_lie_beside_the_file(edgekit: Run, large: Path, tokens: np.ndarray, tmp_path: Path) -> None:
    path, data = tmp_path / "made.onnx", tmp_path / "made.onnx.data"
    ended = edgekit("convert", large, "--to", "onnx", "-o", path, "--json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.json["data"] == str(data)
    assert ended.json["bytes"] == path.stat().st_size + data.stat().st_size
    assert sorted(tmp_path.iterdir()) == [path, data]
    np.testing.assert_allclose(outputs(path, tokens), load(large).predict({"tokens": tokens})["scores"], atol=1e-4)
    found = places(path)
    assert set(found) >= MATRICES
    assert not any("memory" in name or "narrow" in name for name in found)
    assert {place["location"] for place in found.values()} == {data.name}
    assert all(int(place["offset"]) % 65536 == 0 for place in found.values())
    assert {node.op_type for node in read_model(path).graph.node} >= {"LSTM", "Conv", "MatMul", "Gather"}
    assert edgekit("inspect", path, "--json").json["parameters"] > 2_500_000  # tf2onnx joins biases of zeros


@pytest.mark.usefixtures("lowered")
def test_the_same_bytes_twice(edgekit: Run, large: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        assert edgekit("convert", large, "--to", "onnx", "-o", tmp_path / folder / "made.onnx").exit_code == 0
    for name in ("made.onnx", "made.onnx.data"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.usefixtures("lowered")
def test_a_table_that_is_looked_up_in_its_variable(tokens: np.ndarray, tmp_path: Path) -> None:
    import tensorflow as tf

    values = np.random.default_rng(1).normal(size=(WORDS, 1024)).astype(np.float32)
    module = tf.Module()
    module.table, module.other = tf.Variable(values, name="table"), tf.Variable(values.T, name="other")

    @tf.function(input_signature=[tf.TensorSpec((None, LENGTH), tf.int32, name="tokens")])
    def serve(tokens: Any) -> dict[str, Any]:
        rows = tf.raw_ops.ResourceGather(resource=module.table.handle, indices=tokens, dtype=tf.float32)
        return {"scores": tf.reduce_sum(rows @ module.other, axis=1)}

    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=serve)
    (tmp_path / "work").mkdir()
    source = saved_model_source(tmp_path / "saved", tmp_path / "work", allow_code=False)
    made = converter.convert(source, precision="fp32", calibration=None, output=tmp_path / "made.onnx")
    assert set(places(made.path)) == {"table", "other"}
    np.testing.assert_allclose(outputs(made.path, tokens), (values[tokens] @ values.T).sum(axis=1), rtol=1e-3, atol=0.1)


def test_other_weights_beyond_one_file_are_refused(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "MOST_BYTES", 1_000_000)
    source = export_source(load(large), tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(
        ConversionError, match=r"[\d,]+ bytes of the weights are no large matrices .* at most 1,000,000"
    ):
        converter.convert(source, precision="fp32", calibration=None, output=tmp_path / "out" / "made.onnx")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.usefixtures("lowered")
def test_no_bundle_holds_two_files_of_a_variant(large: Path, tokens: np.ndarray, tmp_path: Path) -> None:
    source, samples = export_source(load(large), tmp_path), Data({"tokens": tokens}, None, "samples")
    planned = PlannedVariant("onnx", "fp32", ("local",), ())
    with pytest.raises(
        ConversionError, match=r"onnx-fp32: .* a member of a bundle is one file: make the model smaller"
    ):
        _convert(source, planned, converter, samples)
    made = _convert(source, replace(planned, precision="dynamic-int8"), converter, samples)
    assert made.artifact.no_bundle is None


@pytest.mark.usefixtures("lowered")
@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')
def test_an_engine_built_from_two_files_is_one(edgekit: Run, large: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "large.engine"
    ended = edgekit("convert", large, "--to", "tensorrt", "--compute-capability", "SM86", "-o", path, "--json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.json["data"] is None
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def given(torch_digits: TorchDigits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that came with its weights beside it, in a folder of its own."""
    monkeypatch.setattr(conversion, "MOST_BYTES", 8000)
    (tmp_path / "given").mkdir()
    return with_outside_weights(torch_model(torch_digits.weights, opset=15), tmp_path / "given" / "digits.onnx")


def test_two_files_are_not_compared_or_mended(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 8000)
    with pytest.raises(
        ConversionError, match=r"bytes with the weights beside it, and .* one ONNX file of at most 8,000"
    ):
        converter.trace(given)
    with pytest.raises(ConversionError, match=r"what is mended for TensorRT becomes one ONNX file of at most 8,000"):
        lint_worker.work({"model": str(given), "output": str(given.with_name("mended.onnx"))})


def test_a_given_file_keeps_its_weights_outside(
    edgekit: Run, given: Path, torch_digits: TorchDigits, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "made.onnx"
    for _ in range(2):  # the second replaces the first
        ended = edgekit("convert", given, "--to", "onnx", "-o", path)
        assert ended.exit_code == 0, ended.stderr
    assert " in made.onnx.data, which belongs beside it" in ended.stdout
    assert sorted(item.name for item in path.parent.iterdir()) == ["made.onnx", "made.onnx.data"]
    assert "fc.weight" in places(path)
    assert "fc.bias" not in places(path)  # what is small comes in: shapes are worked out from such
    images = torch_digits.images[:8]
    np.testing.assert_array_equal(outputs(path, images), outputs(torch_digits.model, images))


def test_what_is_made_by_running_the_float_file_is_refused(edgekit: Run, given: Path, tmp_path: Path) -> None:
    ended = edgekit("convert", given, "--to", "onnx", "--precision", "fp16", "-o", tmp_path / "out" / "made.onnx")
    assert ended.exit_code == 2
    assert "and fp16 is made from one ONNX file, which holds at most 8,000: convert it to fp32 or dyn" in ended.stderr
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.usefixtures("lowered")
@pytest.mark.parametrize("from_keras", [True, False])
def test_integer_weights_fit_in_one_file_again(
    edgekit: Run, large: Path, tokens: np.ndarray, from_keras: bool, tmp_path: Path
) -> None:
    float_file, path = tmp_path / "float" / "large.onnx", tmp_path / "out" / "int8.onnx"
    assert edgekit("convert", large, "--to", "onnx", "-o", float_file).exit_code == 0
    given = large if from_keras else float_file
    ended = edgekit("convert", given, "--to", "onnx", "--precision", "dynamic-int8", "-o", path, "--json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.json["data"] is None
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_size < MOST
    wanted = outputs(float_file, tokens)
    assert np.abs(outputs(path, tokens) - wanted).max() < 0.05 * np.abs(wanted).max()


def test_integer_weights_beyond_one_file_are_refused(
    edgekit: Run, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "MOST_BYTES", 1000)
    argv = ("convert", given, "--to", "onnx", "--precision", "dynamic-int8", "-o", tmp_path / "out" / "made.onnx")
    ended = edgekit(*argv)
    assert ended.exit_code == 2
    assert "bytes in dynamic-int8, and one ONNX file holds at most 1,000: make the model smaller" in ended.stderr
    assert not list((tmp_path / "out").iterdir())


def test_weights_of_something_else_are_not_overwritten(edgekit: Run, given: Path, tmp_path: Path) -> None:
    data = tmp_path / "made.onnx.data"
    data.write_bytes(b"precious")
    for older in (None, b"an .onnx file with its weights inside"):
        if older:
            data.with_name("made.onnx").write_bytes(older)
        ended = edgekit("convert", given, "--to", "onnx", "-o", tmp_path / "made.onnx")
        assert ended.exit_code == 2
        assert f"cannot write {data}: it is there and is not of {tmp_path / 'made.onnx'}: move it away" in ended.stderr
        assert data.read_bytes() == b"precious"
        assert (tmp_path / "made.onnx").exists() == bool(older)


def test_a_full_disk_leaves_the_older_pair(edgekit: Run, given: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "made.onnx"
    assert edgekit("convert", given, "--to", "onnx", "-o", path).exit_code == 0
    before = {item: item.read_bytes() for item in path.parent.iterdir()}
    with no_space_beyond(4000):  # of 5,120 bytes of weights
        ended = edgekit("convert", given, "--to", "onnx", "-o", path)
    assert ended.exit_code == 2
    assert "cannot write" in ended.stderr
    assert "File too large; free some space" in ended.stderr
    assert {item: item.read_bytes() for item in path.parent.iterdir()} == before


def test_a_full_disk_at_the_last_step_leaves_it_too(
    edgekit: Run, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / "made.onnx"
    assert edgekit("convert", given, "--to", "onnx", "-o", path).exit_code == 0
    before = {item: item.read_bytes() for item in path.parent.iterdir()}

    def full(_: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.move", full)
    ended = edgekit("convert", given, "--to", "onnx", "-o", path)
    assert ended.exit_code == 2
    assert "made.onnx.data: No space left on device; free some space" in ended.stderr
    assert {item: item.read_bytes() for item in path.parent.iterdir()} == before


def test_an_older_file_never_reads_newer_weights(tmp_path: Path) -> None:
    """Between the two renames there is no `.onnx` file, so that what is killed there leaves no pair that lies."""
    output, work = tmp_path / "made.onnx", tmp_path / "work"
    work.mkdir()
    output.write_bytes(b"names made.onnx.data")
    (tmp_path / "made.onnx.data").write_bytes(b"older")
    (work / "made.onnx.data").write_bytes(b"newer")
    with suppress(KeyboardInterrupt), atomic(output) as temporary:
        temporary.write_bytes(b"newer")
        assert place_beside(work / "made.onnx.data", output).read_bytes() == b"newer"
        raise KeyboardInterrupt
    assert sorted(item.name for item in tmp_path.iterdir()) == ["made.onnx.data", "work"]
