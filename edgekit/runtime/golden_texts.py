"""Golden texts: prompts with the tokens that the float model adds, and a text with its perplexity.

Every variant of a language model is held to them. They are tokens already, so that a device needs numpy and an engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.bundle import Bundle
from edgekit.errors import BundleError, EngineError
from edgekit.manifest import Language, TextTolerance
from edgekit.runtime.session import Session
from edgekit.strict import parse
from edgekit.tensors import Array


@dataclass(frozen=True)
class GoldenPrompt:
    """A prompt, and the most likely tokens that follow, each after those before it."""

    text: str  # for readers
    tokens: tuple[int, ...]
    expected: tuple[int, ...]


@dataclass(frozen=True)
class GoldenTexts:
    """The member, as JSON."""

    prompts: tuple[GoldenPrompt, ...]
    text: tuple[int, ...]  # held-back text of two tokens at least and no more than the context
    perplexity: float  # of the float model on `text`


@dataclass(frozen=True)
class TextResult:
    """How a variant does on the golden texts."""

    variant: str
    engine: str
    accelerator: str
    perplexity: float
    float_perplexity: float
    rise: float  # of the perplexity, as a fraction of the float model's; below 0 where it is better
    token_agreement: float  # share of the expected tokens that are its most likely ones
    expected_tokens: int
    limit: TextTolerance

    @property
    def passed(self) -> bool:
        """Whether both are within the limits."""
        return self.rise <= self.limit.perplexity_rise and self.token_agreement >= self.limit.token_agreement


def need_language(bundle: Bundle) -> Language:
    """What the manifest says of text. Raises EngineError for a bundle without a language model."""
    if bundle.manifest.language is None:
        raise EngineError(f"{bundle.path.name}: the bundle holds no language model")
    return bundle.manifest.language


def read_golden_texts(bundle: Bundle) -> GoldenTexts:
    """The bundle's, checked. Raises EngineError for a bundle without a language model, BundleError for damage."""
    language = need_language(bundle)
    where = f"{bundle.path.name}: {language.golden.path}"
    try:
        content = json.loads(bundle.read(language.golden.path))
    except (ValueError, RecursionError) as problem:
        raise BundleError(f"{where} is not JSON ({problem}); build the bundle again") from problem
    texts = parse(GoldenTexts, content, where=where, error=BundleError)
    _check(texts, language, bundle.manifest.outputs[0].shape[-1] or 0, where)
    return texts


def check_texts(session: Session, texts: GoldenTexts, *, limit: TextTolerance) -> TextResult:
    """Read the golden texts token by token, as `generate` does. Raises EngineError."""
    agreed = [agrees for prompt in texts.prompts for agrees in _agreements(session, prompt)]
    found = perplexity(session, texts.text)
    return TextResult(
        variant=session.choice.variant,
        engine=session.choice.engine,
        accelerator=session.choice.accelerator,
        perplexity=found,
        float_perplexity=texts.perplexity,
        rise=found / texts.perplexity - 1,
        token_agreement=float(np.mean(agreed)),
        expected_tokens=len(agreed),
        limit=limit,
    )


def perplexity(session: Session, tokens: Sequence[int]) -> float:
    """That of each token but the first, by those before it. Raises EngineError where scores are not finite."""
    decoder = session.decoder()
    scores, costs = decoder.begin(tokens[:1]), list[float]()
    for place, token in enumerate(tokens[1:], start=1):
        costs.append(float(token_costs(scores[None], np.array([token]))[0]))
        if place + 1 < len(tokens):
            scores = decoder.step(token)
    if not np.isfinite(costs).all():
        raise EngineError(f"{session.choice.variant} gives scores that are not finite on the golden text")
    return float(np.exp(np.mean(costs)))


def token_costs(scores: Array, following: Array) -> Array:
    """-log p of each token (places,), by the scores (places, vocabulary) before it; in float64."""
    raised = scores.astype(np.float64)
    raised -= raised.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(raised, following[:, None], axis=-1)[:, 0]
    costs: Array = np.log(np.exp(raised).sum(axis=-1)) - chosen
    return costs


def _agreements(session: Session, prompt: GoldenPrompt) -> Iterator[bool]:
    """Whether each expected token is the most likely one, after those before it as they were expected."""
    decoder = session.decoder()
    scores = decoder.begin(prompt.tokens)
    for place, token in enumerate(prompt.expected):
        yield int(scores.argmax()) == token
        if place + 1 < len(prompt.expected):
            scores = decoder.step(token)


def _check(texts: GoldenTexts, language: Language, vocabulary: int, where: str) -> None:
    """Raise BundleError unless all of it can be run and judged."""
    lengths = [len(texts.text), *(len(prompt.tokens) + len(prompt.expected) for prompt in texts.prompts)]
    tokens = [*texts.text, *(token for prompt in texts.prompts for token in (*prompt.tokens, *prompt.expected))]
    if not texts.prompts or not all(prompt.tokens and prompt.expected for prompt in texts.prompts):
        problem = "a prompt without tokens, or no prompt"
    elif len(texts.text) < 2 or not texts.perplexity >= 1:
        problem = "no text of two tokens with a perplexity of at least 1"
    elif max(lengths) > language.context or not all(0 <= token < vocabulary for token in tokens):
        problem = "a text beyond the context, or tokens that the model does not know"
    else:
        return
    raise BundleError(f"{where} holds {problem}; build the bundle again")
