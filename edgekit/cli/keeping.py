"""--history of the verbs that measure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from edgekit.cli.output import progress
from edgekit.errors import EdgekitError
from edgekit.history import History, Run, history_file


def add_history(parser: argparse.ArgumentParser) -> None:
    """Declare --history and --no-history."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--history", type=Path, metavar="FILE",
        help="keep the figures there (default: $EDGEKIT_HISTORY, else history.sqlite in the user's data folder)",
    )  # fmt: skip
    which.add_argument("--no-history", action="store_true", help="keep them nowhere")


def check_history(args: argparse.Namespace) -> None:
    """Before what is measured takes its time: a --history that cannot be kept. Raises OutputError, ConfigError."""
    if args.history is not None:
        History.open(args.history).close()


def keep(args: argparse.Namespace, runs: Sequence[Run]) -> None:
    """Keep runs. A history that cannot be written is an error where it was asked for, else a line on stderr.

    Raises OutputError, ConfigError.
    """
    if args.no_history or not runs:
        return
    try:
        with History.open(history_file(args.history)) as history:
            history.record(runs)
    except EdgekitError as problem:
        if args.history is not None:
            raise
        progress(f"not kept in the history: {problem}")
