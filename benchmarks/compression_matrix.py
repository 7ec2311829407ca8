"""Every compression step on every architecture: what runs, and what is refused with which words.

    python benchmarks/compression_matrix.py [--rows LSTM,Conv1D] [--columns prune,cluster] [-o PAGE.md]

Each cell is one training step on two random samples. Results are kept in a .jsonl beside the page: an interrupted run
goes on with the cells that are missing. Cells that broke, without a sentence of edgekit's, are run again; --again runs
all that are asked for. The page is written anew after each architecture.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import matrix_cells, zoo  # noqa: E402  # a script's own folder is on the path, the repository is not
from benchmarks.journal import Cell, Key, append, counted, is_open, read, run_matrix, table  # noqa: E402
from edgekit import workers  # noqa: E402
from edgekit.errors import EdgekitError, ModelError  # noqa: E402

LIMIT_S = 1800  # for one cell; TFMOT takes minutes to rebuild a graph of hundreds of layers
COLUMNS = (*matrix_cells.STEPS, *matrix_cells.BARE)
NATIVE = tuple(column for column in matrix_cells.STEPS if not column.startswith("tfmot"))
_LEGACY = {"TF_USE_LEGACY_KERAS": "1"}
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}


def main() -> None:
    """Run what is missing, and write the page."""
    output = ROOT / "docs" / "compression-matrix.md"
    run_matrix(__doc__ or "", tuple(zoo.ARCHITECTURES), COLUMNS, output, fill_row, page)


def fill_row(journal: Path, architecture: str, columns: Sequence[str]) -> None:
    """Run the cells of one architecture."""
    for group, environment in grouped(columns):
        fill(journal, architecture, group, environment)


def fill(journal: Path, architecture: str, columns: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run the cells that are missing or broke; a process that dies costs the cell that it was in."""
    missing = [column for column in columns if is_open(read(journal).get((architecture, column)))]
    while missing:
        request = {"architecture": architecture, "columns": missing, "journal": str(journal), "limit_s": LIMIT_S}
        try:
            workers.call(
                "benchmarks.matrix_cells", request, timeout_s=(LIMIT_S + 60.0) * len(missing), what=architecture,
                error=ModelError, environment={**_QUIET, **environment},
            )  # fmt: skip
            return
        except EdgekitError as problem:
            died = next(
                (c for c in missing if read(journal).get((architecture, c), Cell("", "")).outcome == "started"), ""
            )
            if not died:
                raise
            append(journal, (architecture, died), Cell("failed", str(problem)[:300]))
            missing = missing[missing.index(died) + 1 :]


def grouped(columns: Sequence[str]) -> Iterator[tuple[list[str], Mapping[str, str]]]:
    """Columns that can share a process, and its environment: bare TFMOT wants another TensorFlow."""
    bare = [column for column in columns if column in matrix_cells.BARE]
    others = [column for column in columns if column not in bare]
    if others:
        yield others, {}
    if bare:
        yield bare, _LEGACY


def page(cells: Mapping[Key, Cell]) -> str:
    """The Markdown page."""
    sentences: list[str] = []
    native = table(cells, zoo.ARCHITECTURES, NATIVE, sentences)
    tfmot = table(
        cells, zoo.ARCHITECTURES, [f"{kind} {step}" for step in _TFMOT for kind in ("tfmot", "bare")], sentences
    )
    listed = "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1))
    return _PAGE.format(native=native, tfmot=tfmot, sentences=listed or "None.", summary=summary(cells))


def summary(cells: Mapping[Key, Cell]) -> str:
    """How many cells ran, were refused, broke, and are not there yet."""
    return counted(cells, zoo.ARCHITECTURES, COLUMNS)


_TFMOT = ("prune", "cluster", "quantize-aware")
_PAGE = """# Which step works on which architecture

Written by `python benchmarks/compression_matrix.py`. Each cell is one training step on two random samples, with random
weights and small inputs (the defaults of `benchmarks/zoo.py`): it tells what runs, not how good the result is.
A number in brackets is a sentence below. "left" and "in float" count the layers or kernels that a step noted as left as
they were, wholly or in part; `LoadedModel.notes` and `summary()` name each with the reason. Of all cells: {summary}.

## The native engine

Settings: half of the weights; 2 of 4; a quarter of the channels; 16 values per kernel; 70 % of the energy; half the
width; 8 and 4 bits; 4-bit powers of two.

{native}

## TFMOT

Left of each pair: `engine = "tfmot"`, which wraps layer by layer and leaves what TFMOT refuses. Right: TFMOT called on
the whole bridged model (`prune_low_magnitude`, `cluster_weights`, `quantize_model`).

{tfmot}

## Sentences

{sentences}
"""


if __name__ == "__main__":
    main()
