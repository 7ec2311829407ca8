"""Virtual aarch64 boards: built from Debian's packages, run by QEMU, reached over ssh or adb like any other."""

from edgekit.boards.creating import create
from edgekit.boards.folders import Board, boards_folder, delete, find_board, list_boards
from edgekit.boards.machine import power_cut, restore, set_link, snapshot, start, stop

__all__ = [
    "Board", "boards_folder", "create", "delete", "find_board", "list_boards", "power_cut", "restore", "set_link",
    "snapshot", "start", "stop",
]  # fmt: skip
