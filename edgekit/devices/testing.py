"""Run the device tests on a bundle, in a pytest of their own."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgekit.errors import ConfigError

log = logging.getLogger(__name__)

_STDERR = 2
_PASSED, _FAILED = 0, 1  # pytest's exit codes


@dataclass(frozen=True)
class TestOutcome:
    """How the device tests ended."""

    __test__ = False  # pytest: not a test class

    passed: int
    failed: int
    skipped: int
    broken: str | None  # the first trouble with the device
    report: Mapping[str, object]  # figures and outcomes, as the plugin writes them


def run_device_tests(
    bundle: Path, device: str, *, require_device: bool = False, junit: Path | None = None, stream: bool = False
) -> TestOutcome:
    """Run every suite of `edgekit_device_tests`. With `stream`, what pytest says goes to stderr as it says it.

    Raises ConfigError without pytest.
    """
    if find_spec("pytest") is None:
        raise ConfigError('the device tests need pytest: pip install "edgekit[testing]"')
    with tempfile.TemporaryDirectory(prefix="edgekit-test-") as folder:
        report_path = Path(folder, "report.json")
        argv = _command(bundle, device, Path(folder), report_path)
        argv += ["--edgekit-require-device"] if require_device else []
        argv += [f"--junitxml={junit.resolve()}"] if junit else []
        done = _run(argv, stream)
        if done.returncode not in (_PASSED, _FAILED):
            raise RuntimeError(f"pytest ended with exit code {done.returncode}: {done.stdout or 'see above'}")
        report = json.loads(report_path.read_text())
    outcomes = [test["outcome"] for test in report["tests"]]
    passed, failed, skipped = (outcomes.count(word) for word in ("passed", "failed", "skipped"))
    if failed and not stream:
        log.warning("%s", done.stdout)
    return TestOutcome(passed, failed, skipped, report["broken"], report)


def _command(bundle: Path, device: str, folder: Path, report: Path) -> list[str]:
    settings = folder / "pytest.ini"  # the tests' own: those of the caller's project do not apply
    settings.write_text("[pytest]\naddopts = -ra -q\njunit_family = xunit1\n")
    return [
        *(sys.executable, "-m", "pytest", "-c", str(settings), "-p", "no:cacheprovider"),
        *("--rootdir", str(_suites().parent)),
        *("--pyargs", "edgekit_device_tests", "--edgekit-bundle", str(bundle.resolve())),
        *("--edgekit-device", device, "--edgekit-report", str(report)),
    ]


def _run(argv: list[str], stream: bool) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    output = _STDERR if stream else subprocess.PIPE
    return subprocess.run(
        argv, stdout=output, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment, check=False
    )


def _suites() -> Path:
    package = find_spec("edgekit_device_tests")
    if package is None or package.origin is None:
        raise ConfigError("the device tests are not installed: pip install edgekit")
    return Path(package.origin).parent
