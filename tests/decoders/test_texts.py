"""The texts of a language model's build: rows, golden prompts, stop tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.decoders.settings import LanguageSettings, load_language_project
from edgekit.decoders.texts import DecoderInSteps, evaluation_tokens, golden_prompts, open_tokenizer, stop_tokens
from edgekit.errors import ConfigError, DataError
from edgekit.loading import load
from tests.decoders.projects import CONTEXT, PROMPT, SEED, STOP, foretold, numbers, write_project
from tests.language.pretrained_folders import llama_logits, llama_weights


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageSettings, Path]:
    project = load_language_project(write_project(tmp_path_factory.mktemp("texts")))
    return project.settings, project.model


@pytest.fixture(scope="module")
def decoder(settings: tuple[LanguageSettings, Path]) -> DecoderInSteps:
    return DecoderInSteps(load(settings[1], lengths={"tokens": CONTEXT}), CONTEXT)


def test_rows_of_several_texts_are_those_of_the_formulas(decoder: DecoderInSteps) -> None:
    texts = [numbers("the very good film"), numbers("a bad film not long")]
    tokens, position = ([*map(np.array, column)] for column in (texts, [range(len(text)) for text in texts]))
    columns = (np.concatenate(tokens)[:, None].astype(np.int32), np.concatenate(position).astype(np.int32))
    found = decoder.predict({"tokens": columns[0], "position": columns[1]})["logits"]
    wanted = [llama_logits(llama_weights(SEED), np.array(text)) for text in texts]
    np.testing.assert_allclose(found, np.concatenate(wanted), atol=1e-5)


def test_a_keras_file_of_another_length_does(decoder: DecoderInSteps, tmp_path: Path) -> None:
    decoder.loaded.save(tmp_path / "decoder.keras")
    again = DecoderInSteps(load(tmp_path / "decoder.keras"), 2 * CONTEXT)
    assert list(again.follow(numbers(PROMPT), 8)) == foretold(PROMPT, 8)


def test_stop_tokens_are_the_users_or_the_folders(settings: tuple[LanguageSettings, Path]) -> None:
    chosen, folder = settings
    _, tokenizer = open_tokenizer(chosen, folder, 12)
    assert stop_tokens(chosen, folder, tokenizer) == (STOP,)
    assert stop_tokens(replace(chosen, stop=("film", "[SEP]")), folder, tokenizer) == (7, 3)
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 3]}')
    assert stop_tokens(chosen, folder, tokenizer) == (2, 3)
    (folder / "generation_config.json").write_text('{"eos_token_id": null}')
    with pytest.raises(ConfigError, match="eos_token_id is None"):
        stop_tokens(chosen, folder, tokenizer)
    (folder / "generation_config.json").unlink()
    with pytest.raises(ConfigError, match=r"decoder\.keras does not tell which tokens end a text"):
        stop_tokens(chosen, folder / "decoder.keras", tokenizer)


def test_prompts_are_cut_from_the_text_where_none_are_given(
    settings: tuple[LanguageSettings, Path], decoder: DecoderInSteps
) -> None:
    chosen, folder = settings
    _, tokenizer = open_tokenizer(chosen, folder, 12)
    tokens = evaluation_tokens(chosen, tokenizer)
    prompts = golden_prompts(replace(chosen, prompts=()), tokenizer, tokens, decoder)
    assert [prompt.tokens for prompt in prompts] == [tuple(tokens[start : start + 10]) for start in (0, 10, 20, 30)]
    assert prompts[1].text == tokenizer.decode(tokens[10:20])
    assert list(prompts[0].expected) == foretold(prompts[0].text, 6)


def test_too_little_text_is_refused(settings: tuple[LanguageSettings, Path], tmp_path: Path) -> None:
    chosen, folder = settings
    (tmp_path / "short.txt").write_text("the film")
    _, tokenizer = open_tokenizer(chosen, folder, 12)
    with pytest.raises(DataError, match="has 2 tokens, expected at least 24: one text of the whole context"):
        evaluation_tokens(replace(chosen, evaluation=str(tmp_path / "short.txt")), tokenizer)
