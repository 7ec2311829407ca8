"""The text of a language model's build: tokens to measure on, and golden prompts with what the float model adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: a keras.Model

import numpy as np

from edgekit.data import Data
from edgekit.decoders.settings import LanguageSettings
from edgekit.decoding import LOGITS, POSITION
from edgekit.errors import ConfigError, DataError
from edgekit.language import is_pretrained, open_pretrained
from edgekit.language.caching import cache_shapes, step
from edgekit.loading import LoadedModel, Origin
from edgekit.runtime.golden_texts import GoldenPrompt
from edgekit.tensors import Array, TensorSpec
from edgekit.tokenizing import TOKENIZER, Tokenizer

_PROMPTS = 4  # that are cut from the text where none are given
_LONGEST_PROMPT = 16  # of those, in tokens
_GENERATION = "generation_config.json"


@dataclass(frozen=True)
class DecoderInSteps:
    """The float model as its files have it: one token and its position in, the scores of the next token out.

    Rows follow on each other; a position of 0 begins a text.
    """

    loaded: LoadedModel
    context: int

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Tokens (None, 1) and positions (None,), int32."""
        return (TensorSpec(self.loaded.inputs[0].name, (None, 1), "int32"), TensorSpec(POSITION, (None,), "int32"))

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Logits (None, vocabulary)."""
        return (TensorSpec(LOGITS, (None, self.loaded.outputs[0].shape[-1]), self.loaded.outputs[0].dtype),)

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        return int(self.loaded.outputs[0].shape[-1] or 0)

    @property
    def stateful(self) -> bool:
        """No: each row says its own position."""
        return False

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self.loaded.parameters

    @property
    def classes(self) -> int | None:
        """One for each token."""
        return self.vocabulary

    @property
    def sparsity(self) -> float:
        """Fraction of zeros among the weights."""
        return self.loaded.sparsity

    @property
    def origin(self) -> Origin | None:
        """What it was compressed from."""
        return self.loaded.origin

    def sha256(self) -> str:
        """Hex sha256 of what it was read from."""
        return self.loaded.sha256()

    def predict(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """The scores after each row, (n, vocabulary) float32."""
        tokens, positions = (columns[spec.name] for spec in self.inputs)
        texts = np.split(tokens[:, 0], np.flatnonzero(positions == 0)[1:])
        return {LOGITS: np.concatenate([self._begin(text)[0] for text in texts])}

    def follow(self, tokens: Sequence[int], count: int) -> tuple[int, ...]:
        """The `count` tokens that follow, each the most likely one."""
        scores, caches = self._begin(np.array(tokens, np.int32))
        found = [int(scores[-1].argmax())]
        for place in range(len(tokens), len(tokens) + count - 1):
            piece = np.array([[found[-1]]], np.int32)
            output, caches = step(self.loaded.model, piece, np.int32(place), caches)
            found.append(int(np.asarray(output)[0, -1].argmax()))
        return tuple(found)

    def _begin(self, tokens: Array) -> tuple[Array, Any]:
        """(the scores after each token, what is kept)."""
        model = self.loaded.model
        empty = {}
        for shape in cache_shapes(model):
            nothing = np.zeros((1, shape.groups, self.context, shape.size), np.float32)
            empty[shape.layer] = (nothing, nothing)
        output, caches = step(model, tokens[None], np.int32(0), empty)
        return np.asarray(output)[0], caches


def open_tokenizer(settings: LanguageSettings, model: Path, vocabulary: int) -> tuple[Path, Tokenizer]:
    """The tokenizer's file and what is in it. Raises ConfigError where there is none, and ModelError."""
    path = Path(settings.tokenizer) if settings.tokenizer is not None else model / TOKENIZER
    if not path.is_file():
        raise ConfigError(f"no tokenizer at {path}: give its path as tokenizer in [language]")
    tokenizer = Tokenizer.open(path)
    tokenizer.check_fits(vocabulary)
    return path, tokenizer


def stop_tokens(settings: LanguageSettings, model: Path, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The numbers of what ends a text. Raises ConfigError where neither the settings nor the folder tell."""
    if settings.stop is not None:
        return tuple(tokenizer.number(token) for token in settings.stop)
    if not is_pretrained(model):
        raise ConfigError(f'{model.name} does not tell which tokens end a text: give stop = ["</s>"] in [language]')
    folder = open_pretrained(model)
    told = (folder.json(_GENERATION) or {}).get("eos_token_id", folder.config.get("eos_token_id"))
    found = told if isinstance(told, list) else [told]
    numbers = tuple(token for token in found if isinstance(token, int))
    if len(numbers) != len(found):
        raise ConfigError(f'{model}: eos_token_id is {told!r}: give stop = ["</s>"] in [language]')
    return numbers


def evaluation_data(tokens: Sequence[int], decoder: DecoderInSteps, where: str) -> Data:
    """Texts of `context` tokens as rows: a token, its position, and the token that follows as the label."""
    rows = [
        (tokens[start + place], place, tokens[start + place + 1])
        for start in range(0, len(tokens), decoder.context)
        for place in range(min(decoder.context, len(tokens) - start) - 1)
    ]
    token, position, following = (np.array(column) for column in zip(*rows, strict=True))
    names = [spec.name for spec in decoder.inputs]
    columns = (token[:, None].astype(np.int32), position.astype(np.int32))
    return Data(dict(zip(names, columns, strict=True)), following.astype(np.int64), where)


def evaluation_tokens(settings: LanguageSettings, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The beginning of the evaluation text. Raises DataError for a file that cannot be read or has too little."""
    path = Path(settings.evaluation)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({problem})") from problem
    tokens = tokenizer.encode(text)[: settings.evaluation_tokens]
    least = min(settings.context, settings.evaluation_tokens)
    if len(tokens) < least:
        raise DataError(f"{path}: has {len(tokens)} tokens, expected at least {least}: one text of the whole context")
    return tuple(tokens)


def golden_prompts(
    settings: LanguageSettings, tokenizer: Tokenizer, tokens: Sequence[int], decoder: DecoderInSteps
) -> tuple[GoldenPrompt, ...]:
    """The user's prompts, or pieces of the text. Raises DataError for one that leaves no room in the context."""
    if settings.prompts:
        texts = [(text, tuple(tokenizer.encode(text))) for text in settings.prompts]
    else:
        length = max(1, min(_LONGEST_PROMPT, settings.context - settings.expected_tokens, len(tokens) // _PROMPTS))
        starts = range(0, _PROMPTS * (len(tokens) // _PROMPTS), len(tokens) // _PROMPTS)
        pieces = [tuple(tokens[start : start + length]) for start in starts]
        texts = [(tokenizer.decode(piece), piece) for piece in pieces]
    for text, prompt in texts:
        if not prompt or len(prompt) + settings.expected_tokens > settings.context:
            raise DataError(
                f"golden prompt {text[:20]!r} has {len(prompt)} tokens, expected 1 to "
                f"{settings.context - settings.expected_tokens}: {settings.expected_tokens} follow, and the context "
                f"holds {settings.context}"
            )
    return tuple(GoldenPrompt(text, prompt, decoder.follow(prompt, settings.expected_tokens)) for text, prompt in texts)
