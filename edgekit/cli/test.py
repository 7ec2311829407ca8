"""`edgekit test BUNDLE --device URL`: run the device tests in a pytest of their own."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Any: the plugin's report, which is JSON

from edgekit.bundle import Bundle
from edgekit.cli.keeping import add_history, check_history, keep
from edgekit.cli.output import add_require_signature, add_vendor_wheels, emit
from edgekit.device_results import markdown, runs_of
from edgekit.devices import LOCAL, opened_device
from edgekit.devices.testing import TestOptions, TestOutcome, run_device_tests
from edgekit.devices.transport import line_of
from edgekit.errors import ConfigError
from edgekit.files import write_text
from edgekit.gate import check_baseline
from edgekit.manifest import Manifest
from edgekit.trust import check_signature

_FAILED, _UNKNOWN = 1, 3  # a device is broken, or the gate cannot say
_EXIT_CODES = (
    "exit codes: 0 passed, and not slower than --baseline; 1 a test failed, or slower; 2 a mistake; "
    "3 trouble with a device, or the gate is inconclusive"
)
_ONLY_WITH = {
    "baseline": ("variant", "gate_budget", "gate_pairs", "gate_most_pairs", "calibrate"),
    "evaluation": ("samples", "metric", "max_drop"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit test`."""
    parser.epilog = _EXIT_CODES
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE")
    add("--device", action="append", metavar="URL", help="where to test it (default: local:); repeatable")
    add("--jobs", type=int, default=1, metavar="N", help="devices that are tested side by side (1)")
    add("--require-device", action="store_true", help="a variant without its engine there fails")
    add("--lease-wait", type=float, metavar="S", help="until a device must be free (600)")
    add("--evaluation", metavar="DATA", help="labelled data (.npz or module:function): accuracy on the device")
    add("--samples", type=int, metavar="N", help="of the data, at most (500)")
    add("--metric", metavar="NAME", help="top1 or module:function (default: the bundle's)")
    add("--max-drop", type=float, metavar="X", help="the metric's allowed drop (0.01)")
    add("--max-p90-ms", type=float, metavar="MS", help="a variant's longest p90")
    add("--max-memory-mib", type=float, metavar="MIB", help="the most that a variant's process may take")
    add("--accelerator", metavar="WORD", help="what must run every variant: XNNPACK, gpu, …")
    add("--soak", type=float, metavar="MINUTES", help="run the best variant for so long; 10 is usual")
    add("--benchmark-model", type=Path, metavar="PATH", help="measure with Google's binary there too")
    add("--junit", type=Path, metavar="FILE", help="write JUnit XML with the figures")
    add("--markdown", type=Path, metavar="FILE", help="write a summary for a pull request")
    _add_gate(parser)
    add_history(parser)
    add_vendor_wheels(parser)
    add_require_signature(parser)


def _add_gate(parser: argparse.ArgumentParser) -> None:
    gate = parser.add_argument_group("the regression gate")
    add = gate.add_argument
    add("--baseline", type=Path, metavar="OLD", help="an older bundle: is BUNDLE slower?")
    add("--variant", metavar="ID", help="what is compared (default: the best that runs there)")
    add("--gate-budget", type=float, metavar="X", help="the allowed slowdown (0.05)")
    add("--gate-pairs", type=int, metavar="N", help="pairs of processes before a verdict (10)")
    add("--gate-most-pairs", type=int, metavar="N", help="pairs at most (40)")
    add("--calibrate", action="store_true", help="first measure what OLD differs by from itself there, and keep it")


def run(args: argparse.Namespace) -> int:
    """Test and say how it ended: 0 passed, 1 a test failed, 3 a device is broken or the gate is inconclusive."""
    urls = args.device or [LOCAL]
    _check(args, urls)
    options = TestOptions(
        require_device=args.require_device, lease_wait=args.lease_wait, baseline=args.baseline, variant=args.variant,
        gate_budget=args.gate_budget, gate_pairs=args.gate_pairs, gate_most_pairs=args.gate_most_pairs,
        calibrate=args.calibrate, evaluation=args.evaluation, samples=args.samples, metric=args.metric,
        max_drop=args.max_drop, max_p90_ms=args.max_p90_ms, max_memory_mib=args.max_memory_mib,
        accelerator=args.accelerator, soak=args.soak, vendor_wheels=args.vendor_wheels,
        benchmark_model=args.benchmark_model,
    )  # fmt: skip
    outcome = run_device_tests(args.bundle, urls, options=options, junit=args.junit, stream=True, jobs=args.jobs)
    if args.markdown is not None:
        write_text(args.markdown, markdown(outcome))
    keep(args, runs_of(outcome, args.bundle))
    counts = {name: getattr(outcome, name) for name in ("passed", "failed", "skipped", "inconclusive")}
    emit(args, {**counts, "broken": outcome.broken, **outcome.report}, _said(outcome, args.bundle.name, urls))
    if outcome.failed_of_itself:
        return _FAILED
    return _UNKNOWN if outcome.broken or outcome.inconclusive else 0


def _check(args: argparse.Namespace, urls: list[str]) -> None:
    """A damaged bundle, or the only device not there, is one line, not a failed test. Raises EdgekitError."""
    for flag, others in _ONLY_WITH.items():
        lost = [f"--{name.replace('_', '-')}" for name in others if getattr(args, name) not in (None, False)]
        if lost and getattr(args, flag) is None:
            raise ConfigError(f"{', '.join(lost)}: only with --{flag}")
    check_history(args)
    manifest = _verified(args, args.bundle)
    if args.baseline is not None:
        check_baseline(manifest, _verified(args, args.baseline), args.variant)
    if len(urls) == 1:
        with opened_device(urls[0]):
            pass


def _verified(args: argparse.Namespace, path: Path) -> Manifest:
    with Bundle.open(path) as bundle:
        check_signature(bundle, require=args.require_signature, trust=args.trust)
        bundle.verify()
        return bundle.manifest


def _said(outcome: TestOutcome, bundle: str, urls: list[str]) -> str:
    counts = [f"{outcome.passed} passed", f"{outcome.failed} failed", f"{outcome.skipped} skipped"]
    counts += [f"{outcome.inconclusive} inconclusive"] if outcome.inconclusive else []
    where = urls[0] if len(urls) == 1 else f"{len(urls)} devices"
    text = f"{', '.join(counts)} ({bundle} on {where})"
    text += f"; the device is broken: {outcome.broken}" if outcome.broken else ""
    gates = [(device["url"], device["gate"]) for device in outcome.report.get("devices", ()) if device["gate"]]
    return "\n".join([text, *(line_of(url, _verdict(gate)) for url, gate in gates)])


def _verdict(gate: Mapping[str, Any]) -> str:
    return f"{gate['verdict'].upper()}, {gate['choice']['variant']}: {gate['reason']}"
