"""A tiny decoder through `edgekit build` into a bundle, and what sessions, commands and device tests make of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit import open_bundle
from edgekit.bundle import Bundle
from edgekit.cli import main
from edgekit.errors import ConfigError, DataError, EngineError
from edgekit.manifest import TextTolerance
from edgekit.runtime import Session
from edgekit.runtime.golden_texts import check_texts, read_golden_texts
from edgekit.runtime.sampling import Sampling
from tests.decoders.projects import (
    CONTEXT,
    PIECE,
    PROMPT,
    PROMPTS,
    STOP,
    foretold,
    numbers,
    perplexity,
    write_project,
)
from tests.language.pretrained_folders import WORDS

FP32 = "tflite-fp32"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `edgekit build` made."""
    project = write_project(tmp_path_factory.mktemp("language"))
    assert main(("build", str(project), "-o", str(project.parent / "out"))) == 0
    return project.parent / "out"


@pytest.fixture(scope="module")
def bundle(built: Path) -> Path:
    return built / "tiny-1.0.0.edgekit"


@pytest.fixture
def session(bundle: Path) -> Iterator[Session]:
    with open_bundle(bundle, variant=FP32) as opened:
        yield opened


def words(tokens: list[int]) -> str:
    return " ".join(WORDS[token] for token in tokens)


def test_the_bundle_holds_what_text_needs(bundle: Path) -> None:
    with Bundle.open(bundle) as opened:
        assert {member.path for member in opened.verify()} >= {"tokenizer.json", "golden-texts.json", "golden.npz"}
        language, variants = opened.manifest.language, opened.manifest.variants
        texts = read_golden_texts(opened)
    assert language is not None
    assert (language.context, language.prefill, language.stop_tokens) == (CONTEXT, PIECE, (STOP,))
    assert language.cache_bytes == 2 * 2 * 8 * CONTEXT * 4  # layers, keys and values, groups x size, context, float32
    assert {variant.id for variant in variants} == set(language.tolerances) == {FP32, "tflite-dynamic-int8"}
    assert [prompt.text for prompt in texts.prompts] == list(PROMPTS)
    assert [list(prompt.expected) for prompt in texts.prompts] == [foretold(prompt, 6) for prompt in PROMPTS]
    np.testing.assert_allclose(texts.perplexity, perplexity(texts.text), rtol=1e-5)
    assert all(abs(variant.metrics["perplexity"] / texts.perplexity - 1) < 0.2 for variant in variants)


def test_the_device_tests_of_the_build_passed(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    assert report["device_tests"]["failed"] == 0
    assert report["device_tests"]["passed"] >= 18  # 4 of them of each variant's text
    assert [item["name"] for item in report["budget"]["items"]] == [
        f"perplexity rise of {variant}" for variant in (FP32, "tflite-dynamic-int8")
    ]
    assert any("12 of 12 expected tokens" in note for note in report["notes"])


@pytest.mark.parametrize("prompt", ["a", PROMPT, "a very good film", "a very good film not", PROMPTS[1]])
def test_the_most_likely_text_is_that_of_the_formulas(session: Session, prompt: str) -> None:
    room = CONTEXT - len(numbers(prompt))
    expected = foretold(prompt, room)
    stop = expected.index(STOP) if STOP in expected else None
    found = session.generate(prompt)
    assert list(found.tokens) == expected[:stop]
    assert found.ended == ("context" if stop is None else "stop")
    assert found.prompt_tokens == tuple(numbers(prompt))


def test_the_fewest_bytes_come_first(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        assert opened.choice.variant == "tflite-dynamic-int8"


def test_text_comes_piece_by_piece(session: Session) -> None:
    growing = session.generate(PROMPT, stream=True)
    assert growing.text == ""
    assert growing.ended is None
    assert next(growing) == " good"
    assert growing.tokens == (5,)
    assert "".join([" good", *growing]) == growing.text == " " + words(foretold(PROMPT, 8))
    assert growing.ended == "stop"
    assert list(growing) == []


def test_no_more_tokens_than_asked_for(session: Session) -> None:
    found = session.generate(PROMPT, max_tokens=3)
    assert (list(found.tokens), found.ended) == (foretold(PROMPT, 3), "max_tokens")


def test_a_seed_draws_the_same_text(session: Session) -> None:
    texts = [session.generate(PROMPT, temperature=2.0, seed=seed).tokens for seed in (1, 1, *range(2, 8))]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 2
    likely = session.generate(PROMPT, temperature=2.0, top_k=1, seed=3)
    assert likely.tokens == session.generate(PROMPT).tokens
    assert likely.seed == 3


def test_tokens_alone_need_no_words(session: Session) -> None:
    stream = session.decoder().follow(numbers(PROMPT), max_tokens=4)
    assert list(stream) == foretold(PROMPT, 4)
    drawn = session.decoder().follow(numbers(PROMPT), sampling=Sampling(2.0, seed=1))
    assert tuple(drawn) == session.generate(PROMPT, temperature=2.0, seed=1).tokens


def test_streams_grow_side_by_side(session: Session) -> None:
    with session.new_stream() as other:
        first, second = session.generate(PROMPT, stream=True), other.generate(PROMPTS[1], stream=True)
        for _ in range(20):
            next(first, None), next(second, None)
    assert list(first.tokens) == foretold(PROMPT, 8)
    assert second.tokens == session.generate(PROMPTS[1]).tokens


@pytest.mark.parametrize("between", ["another text", "a run", "a reset"])
def test_a_text_does_not_go_on_after_another(session: Session, between: str) -> None:
    growing = session.generate(PROMPT, stream=True)
    next(growing)
    if between == "another text":
        session.generate(PROMPT, max_tokens=1)
    elif between == "a run":
        session.run(session.sample())
    else:
        session.reset_state()
    with pytest.raises(EngineError, match="used for something else before this text had ended"):
        next(growing)


def test_a_closed_session_says_so(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        growing = opened.generate(PROMPT, stream=True)
    with pytest.raises(EngineError, match="the session is closed"):
        next(growing)


@pytest.mark.parametrize(
    ("prompt", "values", "error", "said"),
    [
        ("", {}, DataError, "the prompt has no tokens"),
        ("a " * 24, {}, DataError, "the prompt has 24 tokens, and the context holds 24 with what follows: give 23"),
        ("a " * 20, {"max_tokens": 5}, DataError, "5 tokens after a prompt of 20, and the context holds 24: ask for 4"),
        ("a", {"max_tokens": 0}, DataError, "max_tokens is 0"),
        ("a", {"temperature": -1}, ConfigError, "temperature is -1"),
    ],
)
def test_what_cannot_be_generated_is_refused(
    session: Session, prompt: str, values: dict[str, float], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        session.generate(prompt, **values)  # type: ignore[arg-type]


def test_foreign_tokens_are_refused(session: Session) -> None:
    with pytest.raises(DataError, match="the prompt has token 12, and the model knows 12 tokens"):
        session.decoder().follow([4, 12])


def test_the_whole_context_can_be_used(session: Session) -> None:
    found = session.decoder().follow(numbers("film " * 20))
    assert (len(tuple(found)), found.ended) in ((4, "context"), (len(found.tokens), "stop"))
    assert session.decoder().begin(numbers("film " * CONTEXT)).shape == (len(WORDS),)


def test_golden_texts_tell_a_worse_variant(bundle: Path, session: Session) -> None:
    with Bundle.open(bundle) as opened:
        texts = read_golden_texts(opened)
    exact = TextTolerance(perplexity_rise=1e-4, token_agreement=1.0)
    assert check_texts(session, texts, limit=exact).passed
    with open_bundle(bundle, variant="tflite-dynamic-int8") as worse:
        found = check_texts(worse, texts, limit=exact)
    assert not found.passed
    assert found.rise != pytest.approx(0, abs=1e-4)
    changed = replace(texts, perplexity=texts.perplexity / 1.01)  # as if the float model did better
    assert not check_texts(session, changed, limit=exact).passed


class TestCommands:
    def test_run_prints_the_text(self, bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert main(("run", str(bundle), "--prompt", PROMPT, "--variant", FP32)) == 0
        out, err = capfd.readouterr()
        assert out == " " + words(foretold(PROMPT, 8)) + "\n"
        assert "3 tokens and 8 that followed in" in err
        assert f"(ended: stop): {FP32} on ai-edge-litert" in err

    @pytest.mark.parametrize("device", [(), ("--device", "local:")])
    def test_run_in_json(self, bundle: Path, capfd: pytest.CaptureFixture[str], device: tuple[str, ...]) -> None:
        sampling = ("--temperature", "2", "--top-k", "5", "--top-p", "0.9", "--seed", "4", "--max-tokens", "4")
        assert main(("run", str(bundle), "--prompt", PROMPT, "--variant", FP32, *sampling, *device, "--json")) == 0
        found = json.loads(capfd.readouterr().out)
        with open_bundle(bundle, variant=FP32) as session:
            text = session.generate(PROMPT, temperature=2.0, top_k=5, top_p=0.9, seed=4, max_tokens=4)
        assert (found["text"], found["tokens"], found["seed"]) == (text.text, list(text.tokens), 4)
        assert (found["prompt_tokens"], found["ended"]) == (3, text.ended)
        assert found["choice"]["variant"] == FP32

    @pytest.mark.parametrize(
        ("argv", "said"),
        [
            (("--prompt", PROMPT, "--input", "x.npz"), "--input does not go with --prompt: leave it out"),
            (("--prompt", PROMPT, "--preprocess"), "--preprocess does not go with --prompt"),
            (("--input", "x.npz", "--top-k", "2"), "--top-k goes with --prompt alone"),
            ((), "give --input X, or --prompt TEXT"),
            (("--prompt", ""), "the prompt has no tokens"),
            (("--prompt", "a " * 40, "--device", "local:"), "the prompt has 40 tokens"),
        ],
    )
    def test_run_refuses(
        self, bundle: Path, capfd: pytest.CaptureFixture[str], argv: tuple[str, ...], said: str
    ) -> None:
        assert main(("run", str(bundle), *argv)) == 2
        out, err = capfd.readouterr()
        assert (said in err, out) == (True, "")

    @pytest.mark.parametrize("device", [(), ("--device", "local:")])
    def test_bench_tells_of_text(
        self, bundle: Path, capfd: pytest.CaptureFixture[str], device: tuple[str, ...]
    ) -> None:
        argv = ("bench", str(bundle), "--variant", FP32, "--texts", "3", "--no-history", *device)
        assert main((*argv, "--json")) == 0
        found = json.loads(capfd.readouterr().out)
        with Bundle.open(bundle) as opened:
            size = opened.variant(FP32).member.bytes
        assert (found["prompt_tokens"], found["new_tokens"]) == (3 * PIECE + 1, CONTEXT // 4)
        assert (found["first_token"]["runs"], found["decode"]["runs"]) == (3, 3 * (CONTEXT // 4 - 1))
        assert found["prefill_tokens_per_s"] == pytest.approx(1e3 * 3 * PIECE / found["prefill"]["median_ms"], rel=1e-3)
        assert found["decode_tokens_per_s"] == pytest.approx(1e3 / found["decode"]["median_ms"], rel=1e-3)
        assert found["bytes_per_token"] == size + 2 * 2 * 8 * CONTEXT * 4
        assert found["cache_bytes_per_token"] == 2 * 2 * 8 * 4
        assert found["peak_rss_bytes"] > 1 << 20

    def test_bench_in_words(self, bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
        counts = ("--texts", "2", "--prompt-tokens", "9", "--new-tokens", "3")
        assert main(("bench", str(bundle), *counts, "--no-history")) == 0
        lines = capfd.readouterr().out.splitlines()
        assert "2 texts of 9 tokens and 3 new ones" in lines[0]
        heads = ("time to first token", "prefill", "decode", "peak memory of the process", "bytes per token")
        assert [line.split(":")[0] for line in lines[1:6]] == list(heads)

    @pytest.mark.parametrize(
        ("argv", "said"),
        [
            (("--runs", "3"), "--runs does not apply: tiny-1.0.0.edgekit holds a language model: leave it out"),
            (("--accelerator", "cpu"), "--accelerator does not apply"),
            (("--profile",), "--profile does not apply"),
            (("--texts", "0"), "runs is 0"),
            (("--prompt-tokens", "23", "--new-tokens", "2"), "a prompt of 23 tokens and 2 new ones"),
        ],
    )
    def test_bench_refuses(
        self, bundle: Path, capfd: pytest.CaptureFixture[str], argv: tuple[str, ...], said: str
    ) -> None:
        assert main(("bench", str(bundle), *argv, "--no-history")) == 2
        assert said in capfd.readouterr().err

    def test_a_signed_bundle_covers_its_words(
        self, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        signed = Path(shutil.copy(bundle, tmp_path))
        assert main(("keygen", "release", "-o", str(tmp_path))) == 0
        assert main(("sign", str(signed), "--key", str(tmp_path / "release.key"))) == 0
        run = ("run", str(signed), "--prompt", PROMPT, "--require-signature", "--trust", str(tmp_path))
        assert main(run) == 0
        with Bundle.open(signed) as opened:
            assert "tokenizer.json" in {member.path for member in opened.verify()}
        signed.write_bytes(signed.read_bytes().replace(b"tokenizer.json", b"tokenizes.json"))
        assert main(run) == 2
        assert "tokenize" in capfd.readouterr().err

    def test_inspect_tells_of_text(self, bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert main(("inspect", str(bundle))) == 0
        said = "a language model: 24 tokens of context, a prompt in pieces of 4, stop tokens 1, "
        assert said in capfd.readouterr().out
