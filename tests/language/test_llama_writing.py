"""A decoder as a folder that is read back, by edgekit and by whoever knows the layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ConfigError, ModelError
from edgekit.kerases import import_keras
from edgekit.language.folders import open_folder
from edgekit.language.llama import DecoderSizes, build_decoder
from edgekit.language.llama_writing import save_llama
from edgekit.loading import LoadedModel, load
from tests.language.pretrained_folders import LLAMA, llama_weights, write_folder


def read(tmp_path: Path, *, tied: bool = True) -> LoadedModel:
    config = {**LLAMA, "tie_word_embeddings": tied}
    folder = write_folder(tmp_path / "tiny", llama_weights(tied=tied), config, sentences=False)
    return load(folder, lengths={"tokens": 4})


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_written_is_what_was_read(tmp_path: Path, tied: bool) -> None:
    save_llama(read(tmp_path, tied=tied).model, tmp_path / "again", positions=32, end_token=3)
    folder, weights = open_folder(tmp_path / "again"), llama_weights(tied=tied)
    assert set(folder.files) == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(folder.tensor(name), array)
    config = {**LLAMA, "tie_word_embeddings": tied, "eos_token_id": 3, "torch_dtype": "float32"}
    assert config.items() <= json.loads((tmp_path / "again" / "config.json").read_text()).items()


def test_biases_of_attention_come_back(tmp_path: Path) -> None:
    sizes = DecoderSizes(
        vocabulary=12, width=16, inner=24, blocks=1, heads=4, groups=2, head_size=4, attention_bias=True
    )
    model = build_decoder(sizes)
    save_llama(model, tmp_path / "biased", positions=8)
    again = load(tmp_path / "biased", lengths={"tokens": 4}).model
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    model = read(tmp_path).model
    save_llama(model, tmp_path / "whole", positions=32)
    save_llama(model, tmp_path / "half", positions=32, dtype="float16")
    whole, half = (sum(array.nbytes for array in stored(tmp_path / name).values()) for name in ("whole", "half"))
    assert whole == 2 * half
    assert open_folder(tmp_path / "half").config["torch_dtype"] == "float16"


def stored(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(load_file(folder / "model.safetensors"))


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    keras = import_keras()
    inputs = keras.Input((2,))
    plain = keras.Model(inputs, keras.layers.Dense(1)(inputs), name="plain")
    with pytest.raises(ModelError, match="'plain' is not a decoder of Llama's kind"):
        save_llama(plain, tmp_path / "out", positions=8)
    with pytest.raises(ConfigError, match="dtype is 'int8'"):
        save_llama(read(tmp_path).model, tmp_path / "out", positions=8, dtype="int8")
    assert not (tmp_path / "out").exists()


def test_blocks_of_unequal_sizes_are_refused(tmp_path: Path) -> None:
    keras, model = import_keras(), read(tmp_path).model

    def copied(layer: Any) -> Any:
        config = layer.get_config()
        return type(layer).from_config({**config, "units": 20} if layer.name in ("gate_1", "widen_1") else config)

    cut = keras.models.clone_model(model, clone_function=copied)
    with pytest.raises(ModelError, match=r"'gate_1' of 'decoder' makes 'model\.layers\.1\.mlp\.gate_proj\.weight'"):
        save_llama(cut, tmp_path / "out", positions=8)
