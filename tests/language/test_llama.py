from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ModelError
from edgekit.language.caching import cache_shapes, step
from edgekit.loading import LoadedModel, load
from tests.language.pretrained_folders import LLAMA, WORDS, llama_logits, llama_weights, write_folder

TOKENS = np.array([2, 5, 7, 9, 11, 4, 3], np.int32)


def write(path: Path, *, tied: bool = True, **changes: object) -> Path:
    config = {**LLAMA, "tie_word_embeddings": tied, **changes}
    return write_folder(path, llama_weights(tied=tied), config, sentences=False)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(write(tmp_path_factory.mktemp("llama") / "tiny"), lengths={"tokens": len(TOKENS)})


def logits_of(loaded: LoadedModel) -> np.ndarray:
    return loaded.predict({"tokens": TOKENS[None]})["logits"][0]


def test_equals_the_published_formulas(decoder: LoadedModel) -> None:
    np.testing.assert_allclose(logits_of(decoder), llama_logits(llama_weights(), TOKENS), atol=1e-5)


def test_a_head_of_its_own(tmp_path: Path) -> None:
    untied = load(write(tmp_path / "untied", tied=False), lengths={"tokens": len(TOKENS)})
    np.testing.assert_allclose(logits_of(untied), llama_logits(llama_weights(tied=False), TOKENS), atol=1e-5)


def test_what_comes_later_changes_nothing_before(decoder: LoadedModel) -> None:
    other = TOKENS.copy()
    other[-1] = 6
    changed = decoder.predict({"tokens": other[None]})["logits"][0]
    np.testing.assert_array_equal(changed[:-1], logits_of(decoder)[:-1])
    assert np.abs(changed[-1] - logits_of(decoder)[-1]).max() > 0.1


@pytest.mark.parametrize("first", [1, 4])
def test_goes_on_from_kept_keys_and_values(decoder: LoadedModel, first: int) -> None:
    capacity, stale = 10, np.float32(7)  # what lies behind the position must not count
    caches = {
        shape.layer: (np.full((1, shape.groups, capacity, shape.size), stale),) * 2
        for shape in cache_shapes(decoder.model)
    }
    begun, caches = step(decoder.model, TOKENS[None, :first], np.int32(0), caches)
    found = [np.asarray(begun)[0]]
    for place in range(first, len(TOKENS)):
        logits, caches = step(decoder.model, TOKENS[None, place : place + 1], np.int32(place), caches)
        found.append(np.asarray(logits)[0])
    np.testing.assert_allclose(np.concatenate(found), logits_of(decoder), atol=1e-5)


def test_a_model_without_such_layers_keeps_nothing() -> None:
    import keras

    inputs = keras.Input((2,))
    with pytest.raises(ModelError, match="'plain' has no RotaryAttention layer"):
        cache_shapes(keras.Model(inputs, keras.layers.Dense(1)(inputs), name="plain"))


@pytest.mark.trial
def test_a_process_that_knows_nothing_of_it_loads_what_is_saved(tmp_path: Path, decoder: LoadedModel) -> None:
    decoder.save(tmp_path / "decoder.keras")
    np.save(tmp_path / "tokens.npy", TOKENS)
    script = (
        "import edgekit, numpy as np; "
        "loaded = edgekit.load('decoder.keras'); "
        "np.save('logits.npy', loaded.predict({'tokens': np.load('tokens.npy')[None]})['logits'][0])"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), logits_of(decoder), atol=1e-5)


def _config(**changes: object) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.json").write_text(json.dumps({**LLAMA, **changes})) and None


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_config(rope_scaling={"type": "linear"}), "rope_scaling is {'type': 'linear'}, expected None"),
        (_config(hidden_act="gelu"), "hidden_act is 'gelu', expected 'silu'"),
        (_config(num_key_value_heads=3), "4 heads cannot share 3 keys and values evenly"),
        (_config(head_dim=3), "a head has size 3, expected an even number"),
        (_config(num_key_value_heads=4), "'model.layers.0.self_attn.k_proj.weight' has shape (8, 16)"),
        (_config(tie_word_embeddings=False), "no tensor 'lm_head.weight'"),
        (_config(vocab_size=len(WORDS) - 1), "gives token numbers up to 11, and the model's embedding has 11 rows"),
        (_config(rms_norm_eps="small"), "rms_norm_eps is 'small', expected a number above 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    folder = write(tmp_path / "tiny")
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        load(folder, lengths={"tokens": 4})
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
