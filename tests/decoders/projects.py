"""A project of a tiny decoder with random weights, whose texts can be foretold in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.language.pretrained_folders import LLAMA, WORDS, llama_logits, llama_weights, write_folder

CONTEXT, PIECE = 24, 4
STOP = 1  # "[UNK]", which these weights come to
SEED = 4  # of weights that say several words first
PROMPT = "a very good"
PROMPTS = (PROMPT, "the very good film bad long")
PROJECT = """
name = "tiny"
version = "1.0.0"
model = "decoder"

[language]
context = 24
prefill = 4
evaluation = "held-back.txt"
evaluation_tokens = 40
expected_tokens = 6
prompts = ["a very good", "the very good film bad long"]
max_perplexity_rise = { dynamic-int8 = 0.2 }

[targets.android-arm64]
precision = ["fp32", "dynamic-int8"]
"""


def write_project(path: Path, *changes: tuple[str, str]) -> Path:
    """The project file in folder `path`, with words exchanged, beside the model and the text."""
    folder = write_folder(path / "decoder", llama_weights(SEED), {**LLAMA, "eos_token_id": STOP}, sentences=False)
    (folder / "tokenizer.json").write_text(plain_tokenizer())
    (path / "held-back.txt").write_text("the very good film not a bad long film " * 8)
    project = PROJECT
    for old, new in changes:
        assert old in project, old
        project = project.replace(old, new)
    file = path / "project.toml"
    file.write_text(project)
    return file


def plain_tokenizer() -> str:
    """Of WORDS, without special tokens about a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(WORDS[:4]))
    return tokenizer.to_str()


def numbers(text: str) -> list[int]:
    """The tokens of a text."""
    return [WORDS.index(word) for word in text.split()]


def foretold(prompt: str, count: int) -> list[int]:
    """The most likely tokens after a prompt, by the published formulas."""
    weights, tokens = llama_weights(SEED), numbers(prompt)
    for _ in range(count):
        tokens.append(int(llama_logits(weights, np.array(tokens))[-1].argmax()))
    return tokens[len(tokens) - count :]


def perplexity(tokens: Sequence[int]) -> float:
    """Of a text, by the published formulas."""
    logits = llama_logits(llama_weights(SEED), np.array(tokens))[:-1]
    likely = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return float(np.exp(-likely[np.arange(len(tokens) - 1), tokens[1:]].mean()))
