"""`edgekit test BUNDLE --device URL`: run the device tests in a pytest of their own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any  # Any: JSON

from edgekit.bundle import Bundle
from edgekit.cli.output import emit
from edgekit.devices import opened_device
from edgekit.errors import ConfigError

_STDERR = 2
_PASSED, _FAILED = 0, 1  # pytest's exit codes
_BROKEN = 3  # ours: device trouble


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit test`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--device", default="local:", metavar="URL", help="where to test it (default: local:)")
    parser.add_argument("--require-device", action="store_true", help="a variant without its engine there fails")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML with the figures")


def run(args: argparse.Namespace) -> int:
    """Test and say how it ended: 0 passed, 1 a test failed, 3 the device is broken."""
    _check(args)
    with tempfile.TemporaryDirectory(prefix="edgekit-test-") as folder:
        report_path = Path(folder, "report.json")
        code = _run_pytest(args, Path(folder), report_path)
        if code not in (_PASSED, _FAILED):
            raise RuntimeError(f"pytest ended with exit code {code}; what it said is above")
        report: dict[str, Any] = json.loads(report_path.read_text())
    outcomes = [test["outcome"] for test in report["tests"]]
    counts = {outcome: outcomes.count(outcome) for outcome in ("passed", "failed", "skipped")}
    text = ", ".join(f"{number} {word}" for word, number in counts.items()) + f" ({args.bundle.name} on {args.device})"
    if report["broken"]:
        text += f"; the device is broken: {report['broken']}"
    emit(args, {**counts, **report}, text)
    return _BROKEN if report["broken"] else code


def _check(args: argparse.Namespace) -> None:
    if find_spec("pytest") is None:
        raise ConfigError('the device tests need pytest: pip install "edgekit[testing]"')
    with Bundle.open(args.bundle), opened_device(args.device):
        pass


def _suites() -> Path:
    package = find_spec("edgekit_device_tests")
    if package is None or package.origin is None:
        raise ConfigError("the device tests are not installed: pip install edgekit")
    return Path(package.origin).parent


def _run_pytest(args: argparse.Namespace, folder: Path, report: Path) -> int:
    settings = folder / "pytest.ini"  # the tests' own: those of the caller's project do not apply
    settings.write_text("[pytest]\naddopts = -ra\n")
    argv = [
        *(sys.executable, "-m", "pytest", "-c", str(settings), "-p", "no:cacheprovider"),
        *("--rootdir", str(_suites().parent)),
        *("--pyargs", "edgekit_device_tests", "--edgekit-bundle", str(args.bundle.resolve())),
        *("--edgekit-device", args.device, "--edgekit-report", str(report)),
        *(["--edgekit-require-device"] if args.require_device else []),
        *([f"--junitxml={args.junit.resolve()}"] if args.junit else []),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    return subprocess.run(argv, stdout=_STDERR, env=environment, check=False).returncode
