"""`edgekit cache list|prune`: the TensorRT engines that were built on this device."""

from __future__ import annotations

import argparse
import dataclasses

from edgekit.cli.output import emit
from edgekit.cli.table import table
from edgekit.errors import ConfigError
from edgekit.tensorrt.cache import cache_folder
from edgekit.tensorrt.cache_keeping import CacheListing, Pruned, list_cache, prune

_KEY_SHOWN = 12
_MB = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit cache`."""
    parser.add_argument("action", choices=("list", "prune"))
    parser.add_argument(
        "--older-than", type=float, metavar="DAYS", help="prune: engines that were not used for so long"
    )
    parser.add_argument(
        "--max-bytes", type=int, metavar="N", help="prune: engines used longest ago, until N bytes hold the rest"
    )
    parser.add_argument("--all", action="store_true", help="prune: every engine, and what builds have measured")


def run(args: argparse.Namespace) -> int:
    """List or prune; damaged files go with any prune."""
    if args.action == "prune":
        pruned = prune(
            cache_folder(), older_than_days=args.older_than, max_bytes=args.max_bytes, everything=args.all
        )  # fmt: skip
        emit(args, dataclasses.asdict(pruned), _describe(pruned))
        return 0
    if args.all or args.older_than is not None or args.max_bytes is not None:
        raise ConfigError("--older-than, --max-bytes and --all are for edgekit cache prune")
    listing = list_cache(cache_folder())
    emit(args, dataclasses.asdict(listing), _table(listing))
    return 0


def _table(listing: CacheListing) -> str:
    rows = [("engine", "MB", "for", "CUDA", "build s", "built", "used")]
    for item in listing.engines:
        entry, machine = item.entry, item.entry.machine
        rows.append((
            entry.key[:_KEY_SHOWN], f"{entry.bytes / _MB:.1f}", f"{machine.package} {machine.version}, {machine.gpu}",
            f"{machine.cuda_runtime // 1000}.{machine.cuda_runtime % 1000 // 10}", f"{entry.build_s:.1f}", entry.built,
            item.used,
        ))  # fmt: skip
    lines = [table(rows)] if listing.engines else []
    lines += [f"damaged: {name}" for name in listing.damaged]
    return "\n".join([*lines, f"{listing.folder}: {len(listing.engines)} engine(s), {listing.bytes / _MB:.1f} MB"])


def _describe(pruned: Pruned) -> str:
    first = f"{len(pruned.removed)} engine(s) removed, {pruned.kept} kept, {pruned.freed_bytes / _MB:.1f} MB freed"
    return "\n".join([first, *(f"removed {name}: damaged" for name in pruned.damaged), *pruned.notes])
