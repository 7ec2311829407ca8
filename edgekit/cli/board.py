"""`edgekit board ACTION NAME`: virtual aarch64 boards, for tests without a real one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

from edgekit.boards import creating, folders, machine
from edgekit.boards.folders import Board, Scheme
from edgekit.boards.presets import PRESETS
from edgekit.cli.output import emit
from edgekit.cli.progress import shown_progress
from edgekit.cli.table import table
from edgekit.errors import ConfigError

TAG = "kept"  # the snapshot that is meant where none is named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit board`."""
    parser.add_argument(
        "action", choices=("create", "list", *_ACTIONS),
        help="create: build it from Debian's packages; list: what there is; start: boot it, and print its URL; "
        "stop: switch it off; snapshot: keep its memory and disk; restore: go back to them, and print its URL; "
        "delete: away with it",
    )  # fmt: skip
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a board; list: of all boards without it")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="create: whom it imitates (default: plain)")
    parser.add_argument("--as", choices=get_args(Scheme), dest="as_", help="create: how it is reached (default: ssh)")
    parser.add_argument("--mirror", metavar="URL", help="create: a Debian mirror (default: mmdebstrap's)")
    parser.add_argument(
        "--vendor-wheels", type=Path, metavar="DIR", help="create: a folder of aarch64 wheels, instead of pip's index"
    )
    parser.add_argument("--memory-mib", type=int, metavar="N", help=f"create (default: {creating.MEMORY_MIB})")
    parser.add_argument("--disk-mib", type=int, metavar="N", help=f"create (default: {creating.DISK_MIB})")
    parser.add_argument("--tag", metavar="TAG", help=f"snapshot, restore: which snapshot (default: {TAG})")
    parser.add_argument("--power-cut", action="store_true", help="stop: as if the plug were pulled")
    parser.add_argument(
        "--boards",
        type=Path,
        metavar="DIR",
        help="where boards lie (default: $EDGEKIT_BOARDS, or the user's cache)",
    )


def run(args: argparse.Namespace) -> int:
    """Do it; `start` and `restore` print the device URL."""
    _check_flags(args)
    root = args.boards.absolute() if args.boards else folders.boards_folder()
    if args.action == "list":
        boards = folders.list_boards(root) if args.name is None else [folders.find_board(args.name, root)]
        emit(args, {"boards": [_facts(board) for board in boards]}, _table(boards, root))
        return 0
    if args.name is None:
        raise ConfigError(f"edgekit board {args.action} NAME: which board?")
    if args.action == "create":
        board = _create(args, root)
        emit(args, _facts(board), f"board '{board.name}' is there: edgekit board start {board.name}")
        return 0
    board = folders.find_board(args.name, root)
    text = _ACTIONS[args.action](board, args)
    emit(args, {"name": board.name, "deleted": True} if args.action == "delete" else _facts(board), text)
    return 0


def _create(args: argparse.Namespace, root: Path) -> Board:
    return creating.create(
        args.name,
        preset=args.preset or "plain",
        scheme=args.as_ or "ssh",
        mirror=args.mirror,
        vendor_wheels=args.vendor_wheels,
        memory_mib=creating.MEMORY_MIB if args.memory_mib is None else args.memory_mib,
        disk_mib=creating.DISK_MIB if args.disk_mib is None else args.disk_mib,
        root=root,
        progress=shown_progress(),
    )


def _start(board: Board, _: argparse.Namespace) -> str:
    machine.start(board)
    return board.url


def _stop(board: Board, args: argparse.Namespace) -> str:
    (machine.power_cut if args.power_cut else machine.stop)(board)
    return f"board '{board.name}' is off"


def _snapshot(board: Board, args: argparse.Namespace) -> str:
    machine.snapshot(board, args.tag or TAG)
    return f"board '{board.name}': snapshot '{args.tag or TAG}' is kept"


def _restore(board: Board, args: argparse.Namespace) -> str:
    machine.restore(board, args.tag or TAG)
    return board.url


def _delete(board: Board, _: argparse.Namespace) -> str:
    folders.delete(board)
    return f"board '{board.name}' is gone"


_ACTIONS: Mapping[str, Callable[[Board, argparse.Namespace], str]] = {
    "start": _start, "stop": _stop, "snapshot": _snapshot, "restore": _restore, "delete": _delete,
}  # fmt: skip
_FLAGS: Mapping[str, tuple[str, ...]] = {  # and the actions that they are for
    "preset": ("create",), "as_": ("create",), "mirror": ("create",), "vendor_wheels": ("create",),
    "memory_mib": ("create",), "disk_mib": ("create",), "tag": ("snapshot", "restore"), "power_cut": ("stop",),
}  # fmt: skip


def _check_flags(args: argparse.Namespace) -> None:
    for flag, actions in _FLAGS.items():
        if getattr(args, flag) not in (None, False) and args.action not in actions:
            raise ConfigError(f"--{flag.strip('_').replace('_', '-')} is for edgekit board {' and '.join(actions)}")


def _facts(board: Board) -> dict[str, object]:
    return {
        "name": board.name,
        "virtual": True,
        "preset": board.facts.preset,
        "state": board.state,
        "url": board.url,
        "ssh_url": board.ssh_url,
        "snapshots": list(machine.snapshots(board)),
        "packages": dict(board.facts.packages),
        "created": board.facts.created,
    }


def _table(boards: list[Board], root: Path) -> str:
    if not boards:
        return f"{root}: no board; edgekit board create NAME"
    rows = [("board", "preset", "state", "snapshots", "device")]
    rows += [
        (each.name, each.facts.preset, each.state, ", ".join(machine.snapshots(each)) or "-", each.url)
        for each in boards
    ]
    return table(rows)
