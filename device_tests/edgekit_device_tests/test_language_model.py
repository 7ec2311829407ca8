"""A language model's variants on the device: expected tokens, perplexity, and how fast text comes; of such bundles."""

from itertools import takewhile

import pytest

from edgekit.bundle import Bundle
from edgekit.devices.deploy import ZipappBundle
from edgekit.manifest import Language, Variant
from edgekit.pytest_plugin import Record
from edgekit.runtime.golden_texts import TextResult, need_language, read_golden_texts
from edgekit.runtime.sampling import Sampling

SEED = 7
TOKENS = 8  # that are drawn


@pytest.fixture
def language(edgekit_bundle: Bundle) -> Language:
    """What the manifest says of text."""
    return need_language(edgekit_bundle)


def test_expected_tokens(edgekit_texts: TextResult, edgekit_variant: Variant, edgekit_record: Record) -> None:
    """As many of the float model's tokens are its most likely ones as where it was built, less what kernels differ."""
    found = edgekit_texts
    edgekit_record(
        edgekit_variant.id,
        {
            "token_agreement": found.token_agreement,
            "token_agreement_limit": found.limit.token_agreement,
            "expected_tokens": found.expected_tokens,
        },
    )
    assert found.token_agreement >= found.limit.token_agreement


def test_perplexity(edgekit_texts: TextResult, edgekit_variant: Variant, edgekit_record: Record) -> None:
    """Its perplexity on the golden text is not further above the float model's than it may be."""
    found = edgekit_texts
    edgekit_record(
        edgekit_variant.id,
        {
            "perplexity": found.perplexity,
            "perplexity_float": found.float_perplexity,
            "perplexity_rise": found.rise,
            "perplexity_rise_limit": found.limit.perplexity_rise,
        },
    )
    assert found.rise <= found.limit.perplexity_rise, f"perplexity {found.perplexity:.4g}: {found.rise:+.2%}"


def test_it_generates_the_expected_tokens(
    edgekit_language_device: ZipappBundle,
    edgekit_texts: TextResult,
    edgekit_bundle: Bundle,
    edgekit_variant: Variant,
    language: Language,
) -> None:
    """What holds every expected token for the most likely one generates them, as far as a stop token."""
    if edgekit_texts.token_agreement < 1:
        pytest.skip(f"it agrees on {edgekit_texts.token_agreement:.0%} of them: its own texts are others")
    for prompt in read_golden_texts(edgekit_bundle).prompts:
        expected = tuple(takewhile(lambda token: token not in language.stop_tokens, prompt.expected))
        reply = edgekit_language_device.follow(
            prompt.tokens, sampling=Sampling(), max_tokens=len(prompt.expected), variant=edgekit_variant.id
        )
        assert reply.tokens == expected, f"after {prompt.text!r}"


def test_a_seed_draws_the_same_tokens(
    edgekit_language_device: ZipappBundle, edgekit_bundle: Bundle, edgekit_variant: Variant, language: Language
) -> None:
    """Two processes with one seed draw the same."""
    prompt = read_golden_texts(edgekit_bundle).prompts[0].tokens
    count = min(TOKENS, language.context - len(prompt))
    drawn = [
        edgekit_language_device.follow(
            prompt, sampling=Sampling(1.0, seed=SEED), max_tokens=count, variant=edgekit_variant.id
        ).tokens
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]


@pytest.mark.latency
def test_speed_of_text(edgekit_language_device: ZipappBundle, edgekit_variant: Variant, edgekit_record: Record) -> None:
    """Time to the first token, and tokens a second."""
    found = edgekit_language_device.bench_texts(edgekit_variant.id)
    edgekit_record(
        edgekit_variant.id,
        {
            "first_token_ms": found.first_token.median_ms,
            "prefill_tokens_per_s": found.prefill_tokens_per_s,
            "decode_tokens_per_s": found.decode_tokens_per_s,
            "bytes_per_token": found.bytes_per_token,
            "text_peak_rss_bytes": found.peak_rss_bytes,
        },
    )
    assert len(found.decode.samples_ms) == found.first_token.runs * (found.new_tokens - 1)
    assert 0 < found.prefill.median_ms < found.first_token.median_ms
