"""How fast a language model answers here: until its first token, while it reads a prompt, and for each new token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns

from edgekit.bundle import Bundle
from edgekit.errors import ConfigError
from edgekit.manifest import Language
from edgekit.runtime.choosing import Choice
from edgekit.runtime.memory import peak_rss_bytes
from edgekit.runtime.session import Session
from edgekit.runtime.timing import Timing, summarize

DEFAULT_TEXTS = 10
WARMUP_TEXTS = 1


@dataclass(frozen=True)
class TextBenched:
    """One variant's speed with text. Tokens go in and come out: making them of words is not timed."""

    choice: Choice
    prompt_tokens: int
    new_tokens: int  # of each text
    first_token: Timing  # from the prompt to the choice of the first new token
    prefill: Timing  # of the prompt but its last token, which is read with the scores of the next
    decode: Timing  # of each new token after the first
    prefill_tokens_per_s: float  # by the median
    decode_tokens_per_s: float  # by the median
    # What one new token reads at most: all weights, and the keys and values of a whole context.
    bytes_per_token: int
    cache_bytes_per_token: int  # of keys and values that each token in the context takes
    peak_rss_bytes: int | None  # of the process: Python, numpy, the engine and the variant


def bench_texts(
    bundle: Bundle,
    session: Session,
    text: Sequence[int],
    *,
    texts: int,
    prompt_tokens: int | None = None,
    new_tokens: int | None = None,
) -> TextBenched:
    """Time `texts` prompts, cut from `text`, with what follows, after a warm-up.

    By default a prompt takes about half of the context, in whole pieces of prefill and one token more, and what follows
    a quarter of it. Raises ConfigError.
    """
    decoder = session.decoder()
    prompt_count, new_count = _lengths(decoder.language, prompt_tokens, new_tokens)
    if texts < 1:
        raise ConfigError(f"runs is {texts}, expected at least 1 text")
    prompt = [text[place % len(text)] for place in range(prompt_count)]
    for _ in range(WARMUP_TEXTS):
        _time(session, prompt, new_count)
    timed = [_time(session, prompt, new_count) for _ in range(texts)]
    first_token = summarize([times.first_token_ns for times in timed], warmup=WARMUP_TEXTS)
    prefill = summarize([times.prefill_ns for times in timed], warmup=WARMUP_TEXTS)
    decode = summarize([step for times in timed for step in times.steps_ns], warmup=WARMUP_TEXTS * new_count)
    return TextBenched(
        choice=session.choice,
        prompt_tokens=prompt_count,
        new_tokens=new_count,
        first_token=first_token,
        prefill=prefill,
        decode=decode,
        prefill_tokens_per_s=round(1e3 * (prompt_count - 1) / prefill.median_ms, 3),
        decode_tokens_per_s=round(1e3 / decode.median_ms, 3),
        bytes_per_token=bundle.variant(session.choice.variant).member.bytes + decoder.language.cache_bytes,
        cache_bytes_per_token=decoder.language.cache_bytes // decoder.language.context,
        peak_rss_bytes=peak_rss_bytes(),
    )


@dataclass(frozen=True)
class _Times:
    prefill_ns: int
    first_token_ns: int
    steps_ns: list[int]


def _time(session: Session, prompt: list[int], new_tokens: int) -> _Times:
    """One text, with the most likely tokens; it does not end at stop tokens."""
    decoder = session.decoder()
    start = perf_counter_ns()
    decoder.read(prompt[:-1])
    read = perf_counter_ns()
    token = int(decoder.step(prompt[-1]).argmax())
    first = last = perf_counter_ns()
    steps = []
    for _ in range(new_tokens - 1):
        token = int(decoder.step(token).argmax())
        now = perf_counter_ns()
        steps.append(now - last)
        last = now
    return _Times(read - start, first - start, steps)


def _lengths(language: Language, prompt: int | None, new: int | None) -> tuple[int, int]:
    """Raises ConfigError for what the context does not hold."""
    prompt = max(1, language.context // 2 // language.prefill) * language.prefill + 1 if prompt is None else prompt
    new = max(2, min(language.context // 4, language.context - prompt)) if new is None else new
    if prompt < 2 or new < 2 or prompt + new > language.context:
        raise ConfigError(
            f"a prompt of {prompt} tokens and {new} new ones; expected at least 2 of each, and no more together than "
            f"the context of {language.context}"
        )
    return prompt, new
