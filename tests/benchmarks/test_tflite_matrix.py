"""The matrix of TFLite conversions: from an architecture to the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import tflite_matrix, zoo
from benchmarks.journal import Cell, read
from benchmarks.tflite_matrix import ARCHITECTURES, PRECISIONS, convert, page


def test_a_row_is_converted_compared_and_written_down(tmp_path: Path) -> None:
    journal = tmp_path / "page.jsonl"
    convert(journal, "siamese", ["fp32", "int8", "int9"])
    cells = read(journal)
    decibels = {column: cells["siamese", column].text.split(" dB")[0] for column in ("fp32", "int8")}
    assert float(decibels["fp32"]) > 100 > float(decibels["int8"]) > 10
    assert cells["siamese", "int9"] == Cell("refused", "tflite has no precision 'int9'; did you mean 'int8'?")
    text = page(cells)
    assert f"| siamese | {cells['siamese', 'fp32'].text} |" in text
    assert "2 ran, 0 refused, 0 failed" in text  # int9 is no column


def test_the_page_names_a_refusal_once() -> None:
    cells = {("LSTM", "int8"): Cell("refused", "no"), ("GRU", "int8"): Cell("refused", "no")}
    text = page(cells)
    assert text.count("refused [1]") == 2
    assert text.endswith("1. no\n")


def test_every_architecture_is_in_the_zoo() -> None:
    assert set(ARCHITECTURES) <= {*zoo.ARCHITECTURES, *zoo.CONVERTED_TOO}


@pytest.mark.skipif(
    not (tflite_matrix.ROOT / "docs" / "tflite-matrix.jsonl").exists(), reason="run benchmarks/tflite_matrix.py"
)
def test_the_page_in_the_docs_is_its_journals() -> None:
    journal = tflite_matrix.ROOT / "docs" / "tflite-matrix.jsonl"
    assert journal.with_suffix(".md").read_text(encoding="utf-8") == page(read(journal))
    assert len(read(journal)) == len(ARCHITECTURES) * len(PRECISIONS)
