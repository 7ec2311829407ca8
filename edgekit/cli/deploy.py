"""`edgekit deploy BUNDLE --device URL`: install a bundle on devices, or go back to the version before."""

from __future__ import annotations

import argparse
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.cli.output import add_require_signature, add_vendor_wheels, emit, progress, trust_of
from edgekit.cli.progress import shown_lines, shown_progress
from edgekit.devices import deploy, opened_device
from edgekit.devices.installing import KEEP, Installed, install, roll_back
from edgekit.devices.transport import line_of
from edgekit.errors import ConfigError, EdgekitError
from edgekit.progress import Progress
from edgekit.trust import check_signature

SIDE_BY_SIDE = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit deploy`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--device", action="append", required=True, metavar="URL", help="where to; repeatable")
    parser.add_argument("--rollback", action="store_true", help="make the version before current again")
    parser.add_argument(
        "--keep", type=int, default=KEEP, metavar="N", help="older versions that stay, beside the one before"
    )
    add_vendor_wheels(parser)
    add_require_signature(parser)


def run(args: argparse.Namespace) -> int:
    """Install on every device, side by side; one that fails is told, and the others are done."""
    if args.keep < 0:
        raise ConfigError(f"--keep is {args.keep}, expected 0 or more")
    twice = next((url for url in args.device if args.device.count(url) > 1), None)
    if twice is not None:
        raise ConfigError(f"--device {twice} is given twice; each device once")
    with Bundle.open(args.bundle) as bundle:
        check_signature(bundle, require=args.require_signature, trust=args.trust)
        bundle.verify()
        name = bundle.manifest.name
    outcome = partial(_outcome, args, name, shown_progress())
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        outcomes = dict(zip(args.device, pool.map(outcome, args.device), strict=True))
    failed = {url: it for url, it in outcomes.items() if isinstance(it, EdgekitError)}
    done = {url: dataclasses.asdict(it) for url, it in outcomes.items() if isinstance(it, Installed)}
    if len(outcomes) == len(failed) == 1:
        raise next(iter(failed.values()))
    text = "\n".join(line_of(url, _line(outcome)) for url, outcome in outcomes.items())
    errors = {url: {"type": type(it).__name__, "message": str(it)} for url, it in failed.items()}
    emit(args, {"installed": done, "failed": errors}, text)
    return max((problem.exit_code for problem in failed.values()), default=0)


def _outcome(args: argparse.Namespace, name: str, shown: Progress, url: str) -> Installed | EdgekitError:
    try:
        with opened_device(url) as device:
            if args.rollback:
                return roll_back(device, name)
            device.progress, device.listener = shown, shown_lines(url)
            deployed = deploy(args.bundle, device, vendor_wheels=args.vendor_wheels, **trust_of(args))
            progress(line_of(url, "on the device; comparing it with its golden outputs …"))
            return install(deployed, keep=args.keep)
    except EdgekitError as problem:
        return problem


def _line(outcome: Installed | EdgekitError) -> str:
    if isinstance(outcome, EdgekitError):
        return f"{type(outcome).__name__}: {outcome}"
    before = f"; before it {outcome.previous}" if outcome.previous else ""
    return f"{outcome.folder}/current is {outcome.current}{before}"
