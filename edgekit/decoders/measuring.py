"""How good every file of a language model is at text, measured with the engine that will run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgekit.comparison import compare_outputs
from edgekit.converting import Converted
from edgekit.data import Data
from edgekit.decoders.settings import LanguageSettings
from edgekit.decoders.texts import DecoderInSteps
from edgekit.decoding import LOGITS
from edgekit.errors import EngineError
from edgekit.evaluation import top1
from edgekit.manifest import Input, Language, State, TextTolerance
from edgekit.measuring import MeasuredVariant, describe, tolerance
from edgekit.progress import Progress
from edgekit.runtime import open_file
from edgekit.runtime.golden import GoldenVectors, check_golden
from edgekit.runtime.golden_texts import GoldenTexts, TextResult, check_texts, token_costs
from edgekit.tensors import Array

METRIC = "top1"  # of the next token
PERPLEXITY = "perplexity"
SLACK = 0.005  # of a perplexity that another machine's kernels may give
TOKENS_SLACK = 0.02  # the same of the share of expected tokens

_ANY = TextTolerance(perplexity_rise=float("inf"), token_agreement=0.0)


@dataclass(frozen=True)
class Reference:
    """The float model and what it makes of the texts, to which all files are held."""

    model: DecoderInSteps
    evaluation: Data
    scores: Array  # of the evaluation, (n, vocabulary)
    golden: GoldenVectors
    texts: GoldenTexts

    @property
    def perplexity(self) -> float:
        """On the evaluation data."""
        return perplexity_of(self.scores, self.evaluation.need_labels())

    @property
    def accuracy(self) -> float:
        """Share of next tokens that are the most likely one."""
        return top1({LOGITS: self.scores}, self.evaluation.need_labels())


@dataclass(frozen=True)
class MeasuredText:
    """One file, as any model's, and how good it is at text."""

    measured: MeasuredVariant
    perplexity: float  # on the evaluation data
    rise: float  # of it, as a fraction of the float model's
    allowed_rise: float
    tolerance: TextTolerance  # on the golden texts
    golden: TextResult

    def __str__(self) -> str:
        """One line for a report."""
        found, agreed = self.golden, round(self.golden.token_agreement * self.golden.expected_tokens)
        return (
            f"{found.variant}: perplexity {self.perplexity:.4g}, {self.rise:+.2%} of the float model's (allowed: "
            f"{self.allowed_rise:+.2%}); {agreed} of {found.expected_tokens} expected tokens"
        )


def perplexity_of(scores: Array, following: Array) -> float:
    """By the scores (n, vocabulary) before each of the tokens (n,)."""
    return float(np.exp(np.mean(token_costs(scores, following))))


def measure_texts(
    reference: Reference,
    converted: Sequence[Converted],
    settings: LanguageSettings,
    *,
    inputs: tuple[Input, ...],
    language: Language,
    progress: Progress,
) -> list[MeasuredText]:
    """Run every file over the texts. Raises EngineError where scores are not finite, or nothing here runs the file."""
    measured = []
    with progress.task("evaluate", len(converted)) as advance:
        for item in converted:
            found = _measure(reference, item, settings, inputs, language)
            advance(1, str(found))
            measured.append(found)
    return measured


def _measure(
    reference: Reference, item: Converted, settings: LanguageSettings, inputs: tuple[Input, ...], language: Language
) -> MeasuredText:
    variant = replace(describe(item.planned, item.artifact, item.notes), state=State())
    following = reference.evaluation.need_labels()
    with open_file(item.artifact.path, variant, inputs, reference.model.outputs, language=language) as session:
        scores = session.run(reference.evaluation.inputs)[LOGITS]
        if not np.isfinite(scores).all():
            raise EngineError(f"{variant.id}: its scores are not finite; leave out precision {variant.precision}")
        on_golden = session.run(reference.golden.inputs)
        shown = check_golden(session, reference.golden, limit=variant.golden_tolerance).max_error
        texts = check_texts(session, reference.texts, limit=_ANY)
    accuracy, perplexity = top1({LOGITS: scores}, following), perplexity_of(scores, following)
    finished = replace(
        variant,
        metrics={METRIC: accuracy, PERPLEXITY: perplexity},
        golden_tolerance=tolerance(variant, shown or 0.0),
    )
    parity = compare_outputs({LOGITS: reference.scores}, {LOGITS: scores})
    allowed = settings.rise(variant.precision)
    limit = TextTolerance(
        perplexity_rise=max(allowed, texts.rise + SLACK),
        token_agreement=max(0.0, texts.token_agreement - TOKENS_SLACK),
    )
    return MeasuredText(
        MeasuredVariant(finished, item.artifact, accuracy, parity, on_golden),
        perplexity,
        perplexity / reference.perplexity - 1,
        allowed,
        limit,
        replace(texts, limit=limit),
    )
