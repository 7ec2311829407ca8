"""`edgekit test BUNDLE --device URL`: run the device tests in a pytest of their own."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.cli.output import add_require_signature, emit
from edgekit.devices import opened_device
from edgekit.devices.testing import run_device_tests
from edgekit.trust import check_signature

_BROKEN = 3  # device trouble


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit test`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--device", default="local:", metavar="URL", help="where to test it (default: local:)")
    parser.add_argument("--require-device", action="store_true", help="a variant without its engine there fails")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML with the figures")
    add_require_signature(parser)


def run(args: argparse.Namespace) -> int:
    """Test and say how it ended: 0 passed, 1 a test failed, 3 the device is broken."""
    with Bundle.open(args.bundle) as bundle, opened_device(args.device):
        check_signature(bundle, require=args.require_signature, trust=args.trust)
        bundle.verify()  # a damaged bundle or a device that is not there is one line, not a failed test
    outcome = run_device_tests(
        args.bundle, args.device, require_device=args.require_device, junit=args.junit, stream=True
    )
    counts = {"passed": outcome.passed, "failed": outcome.failed, "skipped": outcome.skipped}
    text = ", ".join(f"{number} {word}" for word, number in counts.items()) + f" ({args.bundle.name} on {args.device})"
    if outcome.broken:
        text += f"; the device is broken: {outcome.broken}"
    emit(args, {**counts, **outcome.report}, text)
    if outcome.broken:
        return _BROKEN
    return 1 if outcome.failed else 0
