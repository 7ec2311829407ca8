"""The cells of a matrix of measurements, kept in a .jsonl file so that an interrupted run goes on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

Key = tuple[str, str]  # row, column


@dataclass(frozen=True)
class Cell:
    """What happened."""

    outcome: str  # ran, refused, failed; started when a process died in it
    text: str


def run_matrix(
    description: str,
    rows: Sequence[str],
    columns: Sequence[str],
    output: Path,
    fill: Callable[[Path, str, Sequence[str]], None],
    page: Callable[[Mapping[Key, Cell]], str],
) -> None:
    """The command line of a matrix: `fill` runs the missing cells of a row, and `page` becomes `output`, row by row."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=listed(rows), default=rows, help="architectures, joined by commas")
    parser.add_argument("--columns", type=listed(columns), default=columns, help="joined by commas")
    parser.add_argument("--again", action="store_true", help="run cells that have results, too")
    parser.add_argument("-o", "--output", type=Path, default=output)
    args = parser.parse_args()
    journal = args.output.with_suffix(".jsonl")
    if args.again:
        forget(journal, list(product(args.rows, args.columns)))
    for row in args.rows:
        missing = [column for column in args.columns if is_open(read(journal).get((row, column)))]
        if missing:
            print(f"{row}: {', '.join(missing)}", file=sys.stderr)
            fill(journal, row, missing)
        args.output.write_text(page(read(journal)), encoding="utf-8")
    print(counted(read(journal), rows, columns))


def read(journal: Path) -> dict[Key, Cell]:
    """The last word on each cell."""
    if not journal.exists():
        return {}
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    return {(line["architecture"], line["column"]): Cell(line["outcome"], line["text"]) for line in lines}


def append(journal: Path, key: Key, cell: Cell) -> None:
    """Add the last word on a cell."""
    line = {"architecture": key[0], "column": key[1], "outcome": cell.outcome, "text": cell.text}
    with journal.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def forget(journal: Path, keys: Sequence[Key]) -> None:
    """Drop these cells, and what was said before the last word on the others."""
    kept = {key: cell for key, cell in read(journal).items() if key not in set(keys)}
    journal.write_text("", encoding="utf-8")
    for key, cell in kept.items():
        append(journal, key, cell)


def is_open(cell: Cell | None) -> bool:
    """Whether a cell is to be run: it never was, or it broke."""
    return cell is None or cell.outcome in ("started", "failed")


def counted(cells: Mapping[Key, Cell], rows: Iterable[str], columns: Iterable[str]) -> str:
    """How many cells ran, were refused, broke, and are not there yet."""
    outcomes = [cells.get(key, Cell("missing", "")).outcome for key in product(rows, columns)]
    counts = {word: outcomes.count(word) for word in ("ran", "refused", "failed")}
    counts["not run"] = len(outcomes) - sum(counts.values())
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def table(cells: Mapping[Key, Cell], names: Iterable[str], columns: Sequence[str], sentences: list[str]) -> str:
    """The cells as a Markdown table; what was refused goes into `sentences`, and its number into the table."""
    rows = [["architecture", *columns], ["---"] * (len(columns) + 1)]
    rows += [[name, *(_shown(cells.get((name, column)), sentences) for column in columns)] for name in names]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _shown(cell: Cell | None, sentences: list[str]) -> str:
    if cell is None or cell.outcome == "started":
        return "not run"
    if cell.outcome == "ran":
        return cell.text
    if cell.text not in sentences:
        sentences.append(cell.text)
    return f"{'refused' if cell.outcome == 'refused' else '**broke**'} [{sentences.index(cell.text) + 1}]"


def listed(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """An argument type: names joined by commas, all of them known."""

    def names(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        unknown = [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown '{unknown[0]}'; known: {', '.join(known)}")
        return found

    return names
