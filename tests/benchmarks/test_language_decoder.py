"""The benchmark of a decoder, on a tiny one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import decoder_onnx, decoder_training, decoder_variants
from benchmarks.decoder_memory import write_random
from edgekit.language.llama import DecoderSizes, build_decoder
from edgekit.language.llama_writing import save_llama
from edgekit.loading import load
from edgekit.tokenizing import TOKENIZER, Tokenizer

TEXTS = tuple(f"the film number {number} is a long and very good film" for number in range(2000))
TINY = DecoderSizes(vocabulary=300, width=32, inner=64, blocks=1, heads=2, groups=1, head_size=16)


def test_stretches_of_neighbours_are_held_back() -> None:
    train, held = decoder_training.split(TEXTS)
    assert len(held) == len(TEXTS) // 20
    assert not set(train) & set(held)
    assert held[:50] == list(TEXTS[950:1000])


def test_training_lowers_the_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decoder_training.train_tokenizer(list(TEXTS[:50]), tmp_path / TOKENIZER, vocabulary=TINY.vocabulary)
    tokenizer = Tokenizer.open(tmp_path)
    assert tokenizer.decode(tokenizer.encode(TEXTS[0])) == TEXTS[0]
    rows = decoder_training.rows_of(tokenizer, list(TEXTS[:200]))
    assert rows.shape[1] == decoder_training.CONTEXT
    decoder_training.fit(build_decoder(TINY), rows, steps=21)
    first, *_, last = (float(line.split("loss ")[1].split(",")[0]) for line in capsys.readouterr().out.splitlines())
    assert last < first - 0.5


def test_variants_are_measured_through_their_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_llama(build_decoder(TINY), tmp_path / "decoder", positions=decoder_training.CONTEXT)
    rows = np.random.default_rng(0).integers(1, 300, (1, 8)).astype(np.int32)
    monkeypatch.setattr(decoder_variants, "load_rows", lambda _folder: decoder_training.Prose(rows, rows))
    report = decoder_variants.measure(tmp_path / "decoder", tmp_path, rows=1, only="fp32")
    (row,) = report.rows
    assert report.tokens == 7
    assert abs(row.rise) < 1e-4
    assert 0 < row.token_ms < row.whole_ms


def test_onnx_files_are_measured_through_their_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_llama(build_decoder(TINY), tmp_path / "decoder", positions=decoder_training.CONTEXT)
    rows = np.random.default_rng(0).integers(1, 300, (1, 8)).astype(np.int32)
    monkeypatch.setattr(decoder_onnx, "load_rows", lambda _folder: decoder_training.Prose(rows, rows))
    monkeypatch.setattr(decoder_onnx, "PRECISIONS", ("fp32", "int4-weights"))
    whole, small = decoder_onnx.measure(tmp_path / "decoder", tmp_path, rows=1)
    assert small.bytes < whole.bytes
    assert abs(small.perplexity / whole.perplexity - 1) < 0.1
    assert min(whole.token_cpu_ms, small.token_cpu_ms) > 0


def test_the_random_folder_is_read(tmp_path: Path) -> None:
    parameters = write_random(tmp_path / "random", TINY)
    assert load(tmp_path / "random", lengths={"tokens": 8}).parameters == parameters
