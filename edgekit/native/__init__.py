"""The runtime of devices without Python: `runner.c` on LiteRT's C API, and what is pushed along with it."""

from edgekit.native.building import ABIS, build_runner
from edgekit.native.kits import Kit, find_kit, make_kit

__all__ = ["ABIS", "Kit", "build_runner", "find_kit", "make_kit"]
