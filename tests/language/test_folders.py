from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import main
from edgekit.errors import ModelError
from edgekit.loading import load
from edgekit.tokenizing import Tokenizer
from tests.language.pretrained_folders import BERT, WORDS, bert_weights, tokenizer_json, write_folder

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tiny", bert_weights(), dict(BERT))


def shard(folder: Path, weights: dict[str, np.ndarray]) -> dict[str, str]:
    """Put the weights into two files; the index's weight_map."""
    from safetensors.numpy import save_file

    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in halves.items():
        save_file({name: weights[name] for name in own}, folder / file)
    named = {name: file for file, own in halves.items() for name in own}
    (folder / INDEX).write_text(json.dumps({"weight_map": named}))
    return named


def tokens() -> dict[str, np.ndarray]:
    return {"tokens": np.array([[2, 5, 7, 3]], np.int32)}


def test_shards_are_one_model(folder: Path) -> None:
    whole = load(folder, lengths={"tokens": 4}).predict(tokens())["embedding"]
    shard(folder, bert_weights())
    np.testing.assert_array_equal(load(folder, lengths={"tokens": 4}).predict(tokens())["embedding"], whole)


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_half_floats_are_read(folder: Path, stored: str) -> None:
    from ml_dtypes import bfloat16
    from safetensors.numpy import save_file

    kind = bfloat16 if stored == "bfloat16" else np.dtype(stored)
    whole = load(folder, lengths={"tokens": 4}).predict(tokens())["embedding"]
    save_file({name: array.astype(kind) for name, array in bert_weights().items()}, folder / "model.safetensors")
    halved = load(folder, lengths={"tokens": 4}).predict(tokens())["embedding"]
    assert 0 < np.abs(halved - whole).max() < 0.02


def _missing_shard(folder: Path) -> None:
    shard(folder, bert_weights())
    (folder / "model-00002-of-00002.safetensors").unlink()


def _cut_shard(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _lost_tensor(folder: Path) -> None:
    named = shard(folder, bert_weights())
    (folder / INDEX).write_text(json.dumps({"weight_map": {**named, "other": "model-00001-of-00002.safetensors"}}))


def _leads_out(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _integers(folder: Path) -> None:
    from safetensors.numpy import save_file

    whole = {name: array.astype(np.int8) for name, array in bert_weights().items()}
    save_file(whole, folder / "model.safetensors")


def _config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({**BERT, **changes}))

    return change


def _json(content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.json").write_text(content) and None


def _dense_module(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))


def _max_pooling(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))


def _foreign_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(tokenizer_json((*WORDS, "more", "words")))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_missing_shard, "1 of 2 shards are missing (model-00002-of-00002.safetensors)"),
        (_cut_shard, "not a safetensors file, or cut short"),
        (_lost_tensor, "the shards lack other"),
        (_leads_out, "names '../secret.safetensors', which is not a file of this folder"),
        (_no_weights, "no model.safetensors and no model.safetensors.index.json"),
        (_pickled, "its weights are pickled, which can run code"),
        (_integers, "holds I8, expected floats"),
        (_config(hidden_size=32), "has shape (12, 16), config.json makes it (12, 32)"),
        (_config(num_hidden_layers=3), "no tensor 'encoder.layer.2.attention.self.query.weight'"),
        (_config(vocab_size=10**15), "config.json makes it (1000000000000000, 16)"),
        (_config(num_attention_heads=3), "hidden_size 16 is not a multiple of num_attention_heads 3"),
        (_config(num_attention_heads="4"), "num_attention_heads is '4', expected a whole number from 1 on"),
        (_config(layer_norm_eps=0), "layer_norm_eps is 0, expected a number above 0"),
        (_config(hidden_act="gelu_new"), "hidden_act is 'gelu_new', expected one of gelu, relu, silu"),
        (_config(position_embedding_type="relative_key"), "expected 'absolute'"),
        (_config(pad_token_id=99), "pad_token_id is 99, expected a token number below 12"),
        (_config(model_type="bret"), "model_type is 'bret'; did you mean 'bert'?"),
        (_json("[1]"), "holds list, expected an object"),
        (_json("{"), "cannot be read as JSON"),
        (_dense_module, "modules.json has Dense, expected"),
        (_max_pooling, "pools by pooling_mode_max_tokens, expected mean or cls alone"),
        (_foreign_tokenizer, "gives token numbers up to 13, and the model's embedding has 12 rows"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(folder: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        load(folder, lengths={"tokens": 4})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_the_command_line_says_what_is_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _missing_shard(folder)
    output = folder / "out.tflite"
    words = ("convert", str(folder), "--length", "tokens=4", "--to", "tflite", "-o", str(output))
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "shards are missing" in error
    assert not output.exists()


def test_a_length_is_asked_for(folder: Path) -> None:
    with pytest.raises(ModelError, match="--length tokens=128"):
        load(folder)


def test_a_length_beyond_the_positions_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="a length of 25, and the model has 24 positions"):
        load(folder, lengths={"tokens": 25})


def test_a_tokenizer_that_is_damaged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"not a tokenizer.json, or cut short"):
        Tokenizer.open(tmp_path)
    with pytest.raises(ModelError, match=r"cannot read .*No such file"):
        Tokenizer.open(tmp_path / "nothing.json")
