"""`edgekit targets [NAME]`: the device profiles."""

from __future__ import annotations

import argparse
import dataclasses

from edgekit.cli.output import emit
from edgekit.cli.table import table
from edgekit.profiles import load_target, target_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit targets`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this one alone")


def run(args: argparse.Namespace) -> int:
    """List all, or show one."""
    if args.name is not None:
        profile = dataclasses.asdict(load_target(args.name))
        emit(args, profile, "\n".join(f"{key}: {_words(value)}" for key, value in profile.items()))
        return 0
    profiles = [load_target(name) for name in target_names()]
    rows = [("target", "formats", "precisions by default", "description")]
    rows += [(p.name, ", ".join(p.formats), ", ".join(p.default_precisions), p.description) for p in profiles]
    emit(args, {"targets": [dataclasses.asdict(profile) for profile in profiles]}, table(rows))
    return 0


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
