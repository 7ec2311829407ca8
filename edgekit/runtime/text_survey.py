"""Questions put to a language model's bundle on this machine, in tokens; the answers cross to another as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.runtime.choosing import Choice, Rejected
from edgekit.runtime.generation import TokenStream
from edgekit.runtime.golden_texts import TextResult, check_texts, need_language, read_golden_texts
from edgekit.runtime.opening import open_session
from edgekit.runtime.sampling import Sampling
from edgekit.runtime.survey import Progress, open_each
from edgekit.runtime.text_timing import TextBenched, bench_texts


@dataclass(frozen=True)
class TokensReply:
    """The tokens that followed on a prompt."""

    choice: Choice
    tokens: tuple[int, ...]
    ended: str
    seed: int


@dataclass(frozen=True)
class TextsReply:
    """Several variants held to the golden texts."""

    results: tuple[TextResult, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class Asked:
    """Who is to answer, and how it is opened; `trust` as for `open_bundle`."""

    variant: str | None = None  # None: the best that runs here
    threads: int = 1
    trust: Path | None = None


def follow(
    bundle: Bundle, prompt: Sequence[int], asked: Asked, *, sampling: Sampling, max_tokens: int | None
) -> TokensReply:
    """The tokens that follow on those of a prompt. Raises what `Decoder.follow` does, and what opening does."""
    with open_session(bundle, variant=asked.variant, threads=asked.threads, trust=asked.trust) as session:
        stream: TokenStream = session.decoder().follow(prompt, sampling=sampling, max_tokens=max_tokens)
        tokens = tuple(stream)
        return TokensReply(session.choice, tokens, stream.ended or "", stream.seed)


def golden_texts(
    bundle: Bundle,
    variants: Sequence[str | None],
    *,
    threads: int,
    progress: Progress,
    strict: bool = True,
    trust: Path | None = None,
) -> TextsReply:
    """Hold variants to the golden texts; `variants`, `strict` and `trust` as for `survey.bench`."""
    texts, limits, results = read_golden_texts(bundle), need_language(bundle).tolerances, []
    with ExitStack() as stack:
        open_one = partial(open_session, bundle, threads=threads, trust=trust)
        sessions, rejected = open_each(open_one, variants, stack, strict)
        for name, session in sessions.items():
            progress(f"reading the golden texts with {name}")
            results.append(check_texts(session, texts, limit=limits[name]))
    return TextsReply(tuple(results), rejected)


def bench(
    bundle: Bundle, asked: Asked, *, texts: int, prompt_tokens: int | None, new_tokens: int | None, progress: Progress
) -> TextBenched:
    """Time one variant on text. Raises EngineError for a bundle without a language model, ConfigError."""
    golden = read_golden_texts(bundle)
    with open_session(bundle, variant=asked.variant, threads=asked.threads, trust=asked.trust) as session:
        progress(f"measuring {session.choice.variant} on {texts} texts")
        return bench_texts(
            bundle, session, golden.text, texts=texts, prompt_tokens=prompt_tokens, new_tokens=new_tokens
        )
