"""`edgekit report DIR...`: the page of a build made again from its report.json, or one page of several builds."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from edgekit.cli.output import emit
from edgekit.errors import ConfigError

COMPARISON = "comparison.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit report`."""
    parser.add_argument(
        "builds", nargs="+", type=Path, metavar="DIR",
        help="the folder of a build, which holds report.json; of several, the first is what the others are held to",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="where to write (default: of one build, its folder; else: out)"
    )
    parser.add_argument(
        "--history", action="append", default=[], type=Path, metavar="FILE",
        help="versions before this one: an earlier build's folder, what edgekit history --json printed, its file, or "
        "points (docs/report.md); repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--bench", action="append", default=[], type=Path, metavar="FILE",
        help="what edgekit bench --json printed of this build's bundle on another device; repeatable",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Write the files and say where they are."""
    return _one(args) if len(args.builds) == 1 else _several(args)


def _one(args: argparse.Namespace) -> int:
    from edgekit.report import read_report, write_report
    from edgekit.report.later import with_benches, with_history

    (build,) = args.builds
    report = with_benches(read_report(build), args.bench)
    if args.history:
        report = with_history(report, args.history)
    files = write_report(report, args.output or (build if build.is_dir() else build.parent))
    paths = {name: str(path) for name, path in dataclasses.asdict(files).items()}
    emit(args, {"files": paths}, "\n".join(paths.values()))
    return 0


def _several(args: argparse.Namespace) -> int:
    from edgekit.files import write_text
    from edgekit.report import read_report
    from edgekit.report.comparison_page import comparison_html, names_of

    for flag, given in (("--history", args.history), ("--bench", args.bench)):
        if given:
            raise ConfigError(f"{flag} is for the report of one build: leave it out, or give one DIR")
    if len({build.resolve() for build in args.builds}) < len(args.builds):
        raise ConfigError("the same build is given twice: give different ones")
    reports = names_of([(str(build), read_report(build)) for build in args.builds])
    path = (args.output or Path("out")) / COMPARISON
    write_text(path, comparison_html(reports))
    emit(args, {"files": {"html": str(path)}}, str(path))
    return 0
