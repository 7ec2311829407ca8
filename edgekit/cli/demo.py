"""`edgekit demo -o DIR`: the main job on embedded real data."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgekit.cli import summary
from edgekit.cli.output import emit, quiet_tensorflow
from edgekit.cli.progress import shown_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit demo`."""
    parser.add_argument("-o", "--output", type=Path, default=Path("out"), metavar="DIR", help="default: out")


def run(args: argparse.Namespace) -> int:
    """Train a small CNN on MNIST digits, then build, run and test it."""
    quiet_tensorflow()
    from edgekit.demo import run_demo

    made = run_demo(args.output, shown_progress())
    emit(args, summary.as_json(made), summary.text(made))
    return summary.exit_code(made)
