"""`edgekit targets [NAME]`: the device profiles; `edgekit targets plan BUNDLE --fleet F`: what each board would run."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.cli.output import emit
from edgekit.cli.table import table
from edgekit.errors import ConfigError
from edgekit.fleet import BoardPlan, FleetPlan, load_fleet, plan_fleet
from edgekit.profiles import load_target, target_names

_PLAN = "plan"
_UNKNOWN = "–"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit targets`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this one alone; or plan, with BUNDLE and --fleet")
    parser.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="plan: what the boards are to run")
    parser.add_argument("--fleet", type=Path, metavar="FLEET.toml", help="plan: the boards")


def run(args: argparse.Namespace) -> int:
    """List all, show one, or plan a fleet; a board that is refused is exit code 1."""
    if args.name == _PLAN:
        return _plan(args)
    if args.bundle is not None or args.fleet is not None:
        raise ConfigError("BUNDLE and --fleet belong to edgekit targets plan BUNDLE --fleet FLEET.toml")
    if args.name is not None:
        profile = dataclasses.asdict(load_target(args.name))
        emit(args, profile, "\n".join(f"{key}: {_words(value)}" for key, value in profile.items()))
        return 0
    profiles = [load_target(name) for name in target_names()]
    rows = [("target", "formats", "precisions by default", "description")]
    rows += [(p.name, ", ".join(p.formats), ", ".join(p.default_precisions), p.description) for p in profiles]
    emit(args, {"targets": [dataclasses.asdict(profile) for profile in profiles]}, table(rows))
    return 0


def _plan(args: argparse.Namespace) -> int:
    if args.bundle is None or args.fleet is None:
        raise ConfigError("a plan needs both: edgekit targets plan BUNDLE --fleet FLEET.toml")
    boards = load_fleet(args.fleet)
    with Bundle.open(args.bundle) as bundle:
        made = plan_fleet(bundle.manifest, boards)
    emit(args, {**dataclasses.asdict(made), "refused": len(made.refused)}, _describe(made))
    return 1 if made.refused else 0


def _describe(made: FleetPlan) -> str:
    rows: list[tuple[str, ...]] = [("board", "count", "JetPack", "TensorRT", "GPU", "runs", "precision")]
    rows += [_row(board) for board in made.boards]
    lines = [f"{board.name}: builds {board.build}" for board in made.boards if board.build is not None]
    lines += [f"{board.name}: REFUSED: {board.refused}" for board in made.refused]
    return "\n".join(
        [table(rows), *lines, "How long a build takes and how fast it runs, a board must tell: edgekit bench"]
    )


def _row(board: BoardPlan) -> tuple[str, ...]:
    runs = "refused" if board.refused is not None else board.variant
    words = (board.jetpack, board.tensorrt, board.sm, runs, board.precision)
    return (board.name, str(board.count), *(word or _UNKNOWN for word in words))


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
