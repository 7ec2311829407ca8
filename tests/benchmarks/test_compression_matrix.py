from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compression_matrix, matrix_cells, zoo
from benchmarks.compression_matrix import fill, grouped, page, summary
from benchmarks.journal import Cell, append, forget, read
from edgekit.errors import ModelError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "compression_matrix.py"
PRUNE, CLUSTER = ("LSTM", "prune"), ("LSTM", "cluster")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "page.jsonl"


class Worker:
    """Stands for the worker process: notes each cell as it does, and dies in those that it is told to die in."""

    def __init__(self, deadly: tuple[str, ...] = ()) -> None:
        self.deadly = deadly
        self.requests: list[list[str]] = []

    def call(self, _module: str, request: Mapping[str, Any], **_rest: object) -> dict[str, object]:
        self.requests.append(list(request["columns"]))
        for column in request["columns"]:
            key = (request["architecture"], column)
            append(Path(request["journal"]), key, Cell("started", ""))
            if column in self.deadly:
                raise ModelError("LSTM: the process died of SIGSEGV")
            append(Path(request["journal"]), key, Cell("ran", "50% zero"))
        return {}


def test_a_process_that_dies_costs_the_cell_it_was_in(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(deadly=("cluster",))
    monkeypatch.setattr(compression_matrix.workers, "call", worker.call)
    fill(journal, "LSTM", ["prune", "cluster", "factorize"], {})
    assert worker.requests == [["prune", "cluster", "factorize"], ["factorize"]]
    cells = read(journal)
    assert cells[PRUNE].outcome == cells["LSTM", "factorize"].outcome == "ran"
    assert cells[CLUSTER] == Cell("failed", "LSTM: the process died of SIGSEGV")


def test_a_second_run_goes_on_with_what_is_missing_or_broke(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(journal, PRUNE, Cell("ran", "50% zero"))
    append(journal, CLUSTER, Cell("started", ""))
    append(journal, ("LSTM", "distill"), Cell("refused", "no"))
    append(journal, ("LSTM", "factorize"), Cell("failed", "TypeError"))
    worker = Worker()
    monkeypatch.setattr(compression_matrix.workers, "call", worker.call)
    fill(journal, "LSTM", ["prune", "cluster", "distill", "factorize"], {})
    assert worker.requests == [["cluster", "factorize"]]
    fill(journal, "LSTM", ["prune", "cluster", "distill", "factorize"], {})
    assert len(worker.requests) == 1


def test_a_process_that_dies_before_its_first_cell_ends_the_run(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_args: object, **_rest: object) -> None:
        raise ModelError("LSTM: the process exited with 1")

    monkeypatch.setattr(compression_matrix.workers, "call", die)
    with pytest.raises(ModelError, match="exited with 1"):
        fill(journal, "LSTM", ["prune"], {})


def test_again_forgets_only_what_is_asked_for(journal: Path) -> None:
    append(journal, PRUNE, Cell("started", ""))
    append(journal, PRUNE, Cell("ran", "50% zero"))
    append(journal, CLUSTER, Cell("ran", "3 of 3"))
    forget(journal, [PRUNE])
    assert read(journal) == {CLUSTER: Cell("ran", "3 of 3")}
    assert len(journal.read_text().splitlines()) == 1


def test_bare_tfmot_has_a_process_with_the_old_keras() -> None:
    groups = list(grouped(["prune", "bare prune", "tfmot prune", "bare cluster"]))
    assert groups == [
        (["prune", "tfmot prune"], {}),
        (["bare prune", "bare cluster"], {"TF_USE_LEGACY_KERAS": "1"}),
    ]


def test_the_page_shows_what_ran_and_numbers_each_sentence_once() -> None:
    sentence = "step 'cluster' finds no kernel"
    cells = {
        PRUNE: Cell("ran", "50% zero, 2 left"),
        CLUSTER: Cell("refused", sentence),
        ("BiGRU", "cluster"): Cell("refused", sentence),
        ("BiGRU", "tfmot prune"): Cell("failed", "ValueError: no"),
        ("BiGRU", "distill"): Cell("started", ""),
    }
    text = page(cells)
    lstm = next(line for line in text.splitlines() if line.startswith("| LSTM |"))
    assert lstm.startswith("| LSTM | 50% zero, 2 left | not run | not run | refused [1] |")
    bigru, tfmot = (line for line in text.splitlines() if line.startswith("| BiGRU |"))
    assert "| refused [1] |" in bigru
    assert tfmot.startswith("| BiGRU | **broke** [2] | not run |")
    assert text.count(sentence) == 1
    assert f"1. {sentence}\n2. ValueError: no" in text
    missing = len(zoo.ARCHITECTURES) * len(compression_matrix.COLUMNS) - 4
    assert summary(cells) == f"1 ran, 2 refused, 1 failed, {missing} not run"


def test_a_cell_tells_what_a_step_did() -> None:
    assert matrix_cells.run_cell("Conv1D", "prune", 600) == ("ran", "50% zero")
    outcome, text = matrix_cells.run_cell("LSTM", "quantize-aware", 600)
    assert outcome == "ran"
    assert text.endswith("2 in float")


def test_a_cell_tells_a_refusal_from_a_fault_and_from_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_model: object, _column: str) -> str:
        raise ModelError("no such layer")

    def break_down(_model: object, _column: str) -> str:
        raise ValueError("Exception encountered when calling Dense.\n\nbad shape\n\nCall arguments received:\n  x")

    def hang(_model: object, _column: str) -> str:
        time.sleep(30)
        return "woke"

    outcomes = []
    for run in (refuse, break_down, hang):
        monkeypatch.setattr(matrix_cells, "run_step", run)
        outcomes.append(matrix_cells.run_cell("siamese", "prune", 10))
    assert outcomes == [
        ("refused", "no such layer"),
        ("failed", "ValueError: bad shape"),
        ("failed", "not done after 10 s"),
    ]


def test_bare_tfmot_says_what_it_says(tmp_path: Path) -> None:
    """One cell from the command line to the page, in a process of its own."""
    target = tmp_path / "page.md"
    argv = [sys.executable, SCRIPT, "--rows", "siamese", "--columns", "bare quantize-aware", "-o", target]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("0 ran, 1 refused, 0 failed")
    last = json.loads(target.with_suffix(".jsonl").read_text().splitlines()[-1])
    assert last["text"] == "ValueError: Quantizing a keras Model inside another keras Model is not supported."
    assert last["text"] in target.read_text()


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    argv = [sys.executable, SCRIPT, "--columns", "prunes", "-o", tmp_path / "page.md"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "unknown 'prunes'; known: prune, " in ended.stderr


def test_the_page_in_the_docs_is_its_journals_and_every_cell_ran_or_was_refused() -> None:
    journal = Path(compression_matrix.ROOT, "docs", "compression-matrix.jsonl")
    cells = read(journal)
    assert journal.with_suffix(".md").read_text(encoding="utf-8") == page(cells)
    assert summary(cells).endswith("0 failed, 0 not run")
