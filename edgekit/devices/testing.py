"""Run the device tests on a bundle, in a pytest of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgekit.errors import ConfigError

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
    bundle: Path, device: str, *, require_device: bool = False, junit: Path | None = None
) -> TestOutcome:
    """Run every suite of `edgekit_device_tests`; what pytest says goes to stderr. Raises ConfigError without pytest."""
    if find_spec("pytest") is None:
        raise ConfigError('the device tests need pytest: pip install "edgekit[testing]"')
    with tempfile.TemporaryDirectory(prefix="edgekit-test-") as folder:
        report_path = Path(folder, "report.json")
        code = _run_pytest(bundle, device, require_device, junit, Path(folder), report_path)
        if code not in (_PASSED, _FAILED):
            raise RuntimeError(f"pytest ended with exit code {code}; what it said is above")
        report = json.loads(report_path.read_text())
    outcomes = [test["outcome"] for test in report["tests"]]
    passed, failed, skipped = (outcomes.count(word) for word in ("passed", "failed", "skipped"))
    return TestOutcome(passed, failed, skipped, report["broken"], report)


def _suites() -> Path:
    package = find_spec("edgekit_device_tests")
    if package is None or package.origin is None:
        raise ConfigError("the device tests are not installed: pip install edgekit")
    return Path(package.origin).parent


def _run_pytest(bundle: Path, device: str, require_device: bool, junit: Path | None, folder: Path, report: Path) -> int:
    settings = folder / "pytest.ini"  # the tests' own: those of the caller's project do not apply
    settings.write_text("[pytest]\naddopts = -ra -q\n")
    argv = [
        *(sys.executable, "-m", "pytest", "-c", str(settings), "-p", "no:cacheprovider"),
        *("--rootdir", str(_suites().parent)),
        *("--pyargs", "edgekit_device_tests", "--edgekit-bundle", str(bundle.resolve())),
        *("--edgekit-device", device, "--edgekit-report", str(report)),
        *(["--edgekit-require-device"] if require_device else []),
        *([f"--junitxml={junit.resolve()}"] if junit else []),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    return subprocess.run(argv, stdout=_STDERR, env=environment, check=False).returncode
