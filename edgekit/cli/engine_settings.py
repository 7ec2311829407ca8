"""Flags of `edgekit convert --to tensorrt`, which say what trtexec's flags say (docs/tensorrt.md)."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edgekit.cli.progress import shown_progress
from edgekit.conversion import Converter, GpuConverter
from edgekit.errors import ConfigError
from edgekit.profiles import load_target

FLAGS = (
    *("target", "compute_capability", "min_shapes", "opt_shapes", "max_shapes", "workspace_mib", "optimization_level"),
    *("dla_core", "timing_cache", "hardware_compatibility", "version_compatible"),
)

_MIB = 1 << 20
_PERCENT = 100
_SHAPES = re.compile(r"(?P<name>.+)=(?P<sizes>\d+(x\d+)*)")
_ROLES = ("min", "opt", "max")


def add_engine_settings(group: argparse._ArgumentGroup) -> None:
    """Declare the flags."""
    group.add_argument("--target", metavar="NAME", help="whose GPU it is built for: rtx-4090")
    group.add_argument(
        "--compute-capability", action="append", metavar="SM", help="of a GPU it is built for: SM89; repeatable"
    )
    for role, words in zip(_ROLES, ("the least", "the most usual", "the largest"), strict=True):
        group.add_argument(
            f"--{role}-shapes", action="append", metavar="INPUT=AxBxC", help=f"{words} sizes of an input; repeatable"
        )
    group.add_argument("--workspace-mib", type=int, metavar="N", help="of GPU memory for the layers' scratch")
    group.add_argument("--optimization-level", type=int, metavar="N", help="0 (builds fast) to 5 (runs fast)")
    group.add_argument("--dla-core", type=int, metavar="N", help="of a Jetson, instead of the GPU")
    group.add_argument(
        "--no-gpu-fallback", dest="gpu_fallback", action="store_const", const=False,
        help="refuse what a DLA core cannot run, instead of running it on the GPU",
    )  # fmt: skip
    group.add_argument("--timing-cache", metavar="FILE", help="that TensorRT reads and adds to")
    group.add_argument("--hardware-compatibility", metavar="LEVEL", help="none, ampere-plus or same-compute-capability")
    group.add_argument(
        "--version-compatible", action="store_const", const=True, help="the engine loads in newer TensorRT, too"
    )


def engine_settings(args: argparse.Namespace) -> dict[str, object]:
    """What the flags say, under the keys of `[convert.tensorrt]`. Raises ConfigError."""
    given = {
        "compute_capabilities": _capabilities(args.target, args.compute_capability),
        "profiles": _profiles(args),
        "workspace_bytes": None if args.workspace_mib is None else args.workspace_mib * _MIB,
        "optimization_level": args.optimization_level,
        "dla_core": args.dla_core,
        "gpu_fallback": args.gpu_fallback,
        "timing_cache_file": args.timing_cache,
        "hardware_compatibility": args.hardware_compatibility,
        "version_compatible": args.version_compatible,
    }
    return {key: value for key, value in given.items() if value is not None}


@contextmanager
def watched(converter: Converter) -> Iterator[Converter]:
    """The converter, with its progress shown where it builds engines."""
    if not isinstance(converter, GpuConverter):
        yield converter
        return
    with shown_progress().task("build the engine", _PERCENT) as advance:
        shown = 0

        def show(fraction: float) -> None:
            nonlocal shown
            percent = int(_PERCENT * fraction)
            advance(percent - shown, "%")
            shown = percent

        yield converter.reporting(show)


def _capabilities(target: str | None, named: Sequence[str] | None) -> Sequence[str] | None:
    if target is None:
        return named
    found = load_target(target).compute_capabilities
    if not found:
        raise ConfigError(f"--target {target} builds its engine itself: convert --to onnx for it")
    return tuple(dict.fromkeys((*found, *(named or ()))))


def _profiles(args: argparse.Namespace) -> list[dict[str, dict[str, list[int]]]] | None:
    """One profile: of each input its three shapes, as a recipe has them."""
    shapes: dict[str, dict[str, list[int]]] = {}
    for role in _ROLES:
        for word in getattr(args, f"{role}_shapes") or ():
            found = _SHAPES.fullmatch(word)
            if found is None:
                raise ConfigError(f"--{role}-shapes is '{word}', expected INPUT=AxBxC, for example image=1x3x224x224")
            shapes.setdefault(found["name"], {})[role] = [int(size) for size in found["sizes"].split("x")]
    for name, given in shapes.items():
        missing = [f"--{role}-shapes" for role in _ROLES if role not in given]
        if missing:
            raise ConfigError(f"{' and '.join(missing)} of input '{name}' missing: give its least, usual and largest")
    return [shapes] if shapes else None
