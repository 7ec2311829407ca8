"""`edgekit convert BUNDLE --to triton -o model_repository/`: what a bundle holds, as a server wants it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.bundle_exporters import Exported, find_exporter
from edgekit.cli.output import emit
from edgekit.errors import ConfigError
from edgekit.trust import check_signature

TRUST = ("require_signature", "trust")  # of bundles alone
SETTINGS = (
    "variant", "name", "version_folder", "replace", "max_batch", "preferred_batch", "max_queue_delay_us", "instances",
    "gpus", "cpu", "parallel", "version_policy", "tensorrt_accelerator", "no_preprocessing",
)  # fmt: skip


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the flags, each under its key in the exporter's options."""
    group.add_argument("--variant", metavar="ID", help="of the bundle (default: the best ONNX variant)")
    group.add_argument("--name", metavar="NAME", help="of the model in the repository (default: the bundle's)")
    group.add_argument("--version-folder", type=int, metavar="N", help="default: the next free number")
    _add_switch(group, "--replace", "overwrite that version, and files that all versions share")
    group.add_argument("--max-batch", type=int, metavar="N", help="the most samples in one run, default 8")
    group.add_argument("--preferred-batch", metavar="N,M", help="batches that the server tries to make")
    group.add_argument("--max-queue-delay-us", type=int, metavar="US", help="how long requests wait for others")
    group.add_argument("--instances", type=int, metavar="N", help="copies of the model on each GPU, or on the CPU")
    group.add_argument("--gpus", metavar="N,M", help="the GPUs that get a copy each (default: all)")
    _add_switch(group, "--cpu", "serve on the CPU")
    group.add_argument("--parallel", metavar="WAY", help="data (default): every GPU has the whole model")
    group.add_argument("--version-policy", metavar="P", help="latest:N (default latest:1), all, specific:N,M")
    _add_switch(group, "--no-preprocessing", "no ensemble that takes raw pixels or samples, where the bundle has one")
    _add_switch(group, "--tensorrt-accelerator", "ONNX Runtime hands the graph to TensorRT")


def refuse(args: argparse.Namespace, flags: Iterable[str]) -> None:
    """Raise ConfigError for the first of these flags that was given: it means nothing for this --to."""
    for flag in flags:
        if getattr(args, flag) not in (None, False):
            raise ConfigError(f"--{flag.replace('_', '-')} is not for --to {args.to}: leave it out")


def run(args: argparse.Namespace) -> int:
    """Export and say what was written where."""
    exporter = find_exporter(args.to).with_options(_settings(args), where=f"settings of --to {args.to}")
    with Bundle.open(args.model) as bundle:
        check_signature(bundle, require=args.require_signature, trust=args.trust)
        exported = exporter.export(bundle, args.output)
    emit(args, _result(args, exported), _text(args, exported))
    return 0


def _add_switch(group: argparse._ArgumentGroup, flag: str, text: str) -> None:
    group.add_argument(flag, action="store_const", const=True, help=text)


def _settings(args: argparse.Namespace) -> dict[str, object]:
    given = {key: getattr(args, key) for key in ("precision", *SETTINGS)}
    given |= {key: _numbers(f"--{key.replace('_', '-')}", given[key]) for key in ("preferred_batch", "gpus")}
    return {key: value for key, value in given.items() if value is not None}


def _numbers(flag: str, words: str | None) -> tuple[int, ...] | None:
    if words is None:
        return None
    parts = words.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"{flag} is '{words}', expected whole numbers with commas between, for example 0,1")
    return tuple(map(int, parts))


def _result(args: argparse.Namespace, exported: Exported) -> dict[str, object]:
    return {
        "output": str(args.output), "format": args.to, "folder": str(exported.folder),
        "files": [str(path) for path in exported.files], "variant": exported.variant, "reason": exported.reason,
        "left_out": [{"variant": item.variant, "reason": item.reason} for item in exported.left_out],
        "notes": list(exported.notes),
    }  # fmt: skip


def _text(args: argparse.Namespace, exported: Exported) -> str:
    lines = [f"{exported.folder}: {exported.variant} for {args.to}; {exported.reason}"]
    lines += [f"  {_shown(path, exported.folder)}" for path in exported.files]
    lines += [f"left out: {item.variant}: {item.reason}" for item in exported.left_out]
    return "\n".join((*lines, *exported.notes))


def _shown(path: Path, folder: Path) -> str:
    """Below the model's folder, or the model beside it that it belongs to."""
    return str(path.relative_to(folder if folder in path.parents else folder.parent))
