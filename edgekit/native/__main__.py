"""`python -m edgekit.native --abi arm64-v8a --wheel FILE.whl`: make the native runner's kit for a kind of device."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edgekit.errors import EdgekitError
from edgekit.native.building import ABIS
from edgekit.native.kits import LITERT, make_kit


def main(argv: Sequence[str] | None = None) -> int:
    """Make it, and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m edgekit.native", description=__doc__)
    parser.add_argument("--abi", choices=ABIS, required=True)
    parser.add_argument(
        "--wheel", type=Path, help=f"ai-edge-litert {LITERT} for that processor (default: the installed one)"
    )
    args = parser.parse_args(argv)
    try:
        kit = make_kit(args.abi, wheel=args.wheel)
    except EdgekitError as problem:
        sys.stderr.write(f"error: {problem}\n")
        return problem.exit_code
    size = sum(path.stat().st_size for path in kit.files)
    sys.stdout.write(f"{kit.folder}: {len(kit.files)} files, {size:,} bytes, LiteRT {kit.litert}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
