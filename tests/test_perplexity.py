"""Perplexity, of the Keras model and of what was made of it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from edgekit_onnx import converter as onnx_converter
from edgekit_tflite import converter as tflite_converter

from edgekit.decoding import export_decoder
from edgekit.decoding_past import export_with_past
from edgekit.errors import DataError, ModelError
from edgekit.loading import LoadedModel, load
from edgekit.perplexity import (
    logits_of_model,
    logits_of_onnx,
    logits_of_tflite,
    mean_probability,
    perplexity,
)
from tests.language.pretrained_folders import LLAMA, llama_logits, llama_weights, write_folder

CONTEXT = 8
ROWS = np.array([[2, 5, 7, 9, 11, 4, 3, 8], [4, 6, 6, 10, 3, 0, 0, 0]], np.int64)


def by_hand(rows: np.ndarray, pad: int | None) -> float:
    costs = []
    for row in rows:
        logits = llama_logits(llama_weights(), row)
        for place, following in enumerate(row[1:]):
            if following != pad:
                costs.append(math.log(np.exp(logits[place]).sum()) - logits[place, following])
    return math.exp(sum(costs) / len(costs))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = write_folder(tmp_path_factory.mktemp("ppl") / "tiny", llama_weights(), dict(LLAMA), sentences=False)
    return load(folder, lengths={"tokens": CONTEXT})


def test_the_keras_model_and_its_files_agree_with_the_formula(decoder: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "past").mkdir()
    kept = export_decoder(decoder, tmp_path, context=CONTEXT, prefill=4)
    handed = export_with_past(decoder, tmp_path / "past", context=CONTEXT)
    tflite, onnx = tmp_path / "decoder.tflite", tmp_path / "decoder.onnx"
    tflite_converter.convert(kept, precision="fp32", calibration=None, output=tflite)
    onnx_converter.convert(handed, precision="fp32", calibration=None, output=onnx)
    expected = by_hand(ROWS, pad=0)
    for logits_of in (logits_of_model(decoder), logits_of_tflite(tflite), logits_of_onnx(onnx)):
        found = perplexity(logits_of, ROWS, pad=0)
        assert found.tokens == 11
        assert found.value == pytest.approx(expected, rel=1e-5)


def test_a_file_that_takes_no_past_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain.onnx"
    _write_plain(plain)
    with pytest.raises(ModelError, match="takes no past"):
        logits_of_onnx(plain)


def _write_plain(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y", "z")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "y"], ["z"])], "plain", ports[:2], ports[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)


def test_without_padding_every_next_token_counts() -> None:
    found = perplexity(lambda tokens: llama_logits(llama_weights(), tokens), ROWS)
    assert found.tokens == 14
    assert found.value == pytest.approx(by_hand(ROWS, pad=None))


def test_equal_logits_guess_among_the_whole_vocabulary() -> None:
    assert perplexity(lambda tokens: np.zeros((len(tokens), 12)), ROWS).value == pytest.approx(12)


def test_the_metric_is_one_by_the_perplexity() -> None:
    labels = np.where(np.pad(ROWS[:, 1:], ((0, 0), (0, 1))) == 0, -1, np.pad(ROWS[:, 1:], ((0, 0), (0, 1))))
    logits = np.stack([llama_logits(llama_weights(), row) for row in ROWS])
    assert 1 / mean_probability({"logits": logits}, labels) == pytest.approx(by_hand(ROWS, pad=0))
    with pytest.raises(DataError, match="labels have shape"):
        mean_probability({"logits": logits}, labels[:, :-1])
    with pytest.raises(DataError, match="below 0 throughout"):
        mean_probability({"logits": logits}, np.full_like(labels, -1))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.zeros((2, 8), np.float32), "expected \\(rows, length\\) of integers"),
        (np.zeros((2, 1), np.int32), "no token that follows on another"),
        (np.full((1, 4), 12), "token numbers from 12 to 12, and the model has 12"),
    ],
)
def test_rows_that_say_nothing_are_refused(rows: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        perplexity(lambda tokens: np.zeros((len(tokens), 12)), rows)


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ModelError, match="row 0: the logits are not finite"):
        perplexity(lambda tokens: np.full((len(tokens), 12), np.nan), ROWS)
