"""Run the device tests on a bundle, in pytests of their own: one, or several side by side for a fleet."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any  # Any: the plugin's report, which is JSON

from edgekit.errors import ConfigError
from edgekit.files import atomic

log = logging.getLogger(__name__)

_STDERR = 2
_PASSED, _FAILED, _USAGE = 0, 1, 4  # pytest's exit codes
_WRONG = "ERROR: "  # before a usage error of pytest, on its stderr
_FLAG = "--edgekit-"  # of the plugin's options, which have no such prefix here


@dataclass(frozen=True)
class TestOptions:
    """What the suites are told; the plugin's options of the same names say more. None: as the plugin has it."""

    __test__ = False  # pytest: not a test class

    require_device: bool = False
    baseline: Path | None = None
    variant: str | None = None  # that is held against the baseline
    gate_budget: float | None = None  # the allowed slowdown; a fraction
    gate_pairs: int | None = None
    gate_most_pairs: int | None = None
    calibrate: bool = False
    evaluation: str | None = None
    samples: int | None = None
    metric: str | None = None
    max_drop: float | None = None
    max_p90_ms: float | None = None
    max_memory_mib: float | None = None
    accelerator: str | None = None
    soak: float | None = None  # minutes
    lease_wait: float | None = None  # seconds
    vendor_wheels: Path | None = None
    benchmark_model: Path | None = None

    def words(self) -> list[str]:
        """As the plugin's options."""
        words = []
        for item in fields(self):
            value, flag = getattr(self, item.name), f"{_FLAG}{item.name.replace('_', '-')}"
            if isinstance(value, bool):
                words += [flag] if value else []
            elif value is not None:
                words.append(f"{flag}={value.resolve() if isinstance(value, Path) else value}")
        return words


@dataclass(frozen=True)
class TestOutcome:
    """How the device tests ended."""

    __test__ = False  # pytest: not a test class

    passed: int
    failed: int
    skipped: int
    broken: str | None  # the first trouble with a device
    report: Mapping[str, Any] = field(default_factory=dict)  # figures and outcomes, as the plugin writes them
    inconclusive: int = 0

    @property
    def failed_of_itself(self) -> int:
        """Failed tests that no trouble with their device explains: they are about the bundle."""
        troubles = {device["url"]: device["broken"] for device in self.report["devices"]}
        tests = [test for test in self.report["tests"] if test["outcome"] == "failed"]
        return sum(not _explains(troubles.get(test["device"]), test["reason"]) for test in tests)


def _explains(trouble: str | None, reason: str | None) -> bool:
    """Whether a test failed by the trouble that its device is broken by. A reason is one line."""
    return trouble is not None and trouble.split("\n")[0] in (reason or "")


def run_device_tests(
    bundle: Path,
    devices: str | Sequence[str],
    *,
    options: TestOptions | None = None,
    junit: Path | None = None,
    stream: bool = False,
    jobs: int = 1,
    select: str | None = None,
) -> TestOutcome:
    """Run every suite of `edgekit_device_tests`, on several devices `jobs` at a time.

    With `stream`, what pytest and programs on the device say goes to stderr as they say it (for one job). `select` is a
    marker expression. Raises ConfigError without pytest, or on an option that cannot be.
    """
    if find_spec("pytest") is None:
        raise ConfigError('the device tests need pytest: pip install "edgekit[testing]"')
    urls = [devices] if isinstance(devices, str) else list(devices)
    if jobs < 1 or not urls:
        raise ConfigError(f"{jobs} jobs for {len(urls)} devices, expected at least one of each")
    shares = [urls[start::jobs] for start in range(min(jobs, len(urls)))]
    words = [*(options or TestOptions()).words(), *([] if select is None else ["-m", select])]
    streamed = stream and len(shares) == 1
    words += ["--edgekit-live"] if streamed else []
    with tempfile.TemporaryDirectory(prefix="edgekit-test-") as folder, ThreadPoolExecutor(len(shares)) as pool:
        places = [Path(folder, str(index)) for index in range(len(shares))]
        runs = [
            pool.submit(_run, bundle, share, place, words, streamed)
            for share, place in zip(shares, places, strict=True)
        ]
        reports = [run.result() for run in runs]
        if junit is not None:
            _merge_junit([place / "junit.xml" for place in places], junit)
    return _outcome(reports, urls)


def _outcome(reports: Sequence[Mapping[str, Any]], urls: Sequence[str]) -> TestOutcome:
    """All reports as one, with the devices in the order they were named."""
    by_url = {device["url"]: device for report in reports for device in report["devices"]}
    tests = [test for report in reports for test in report["tests"]]
    merged = {**reports[0], "devices": [by_url[url] for url in urls], "tests": tests}
    outcomes = [test["outcome"] for test in tests]
    passed, failed, skipped, open_ = (outcomes.count(word) for word in ("passed", "failed", "skipped", "inconclusive"))
    broken = [device for device in merged["devices"] if device["broken"]]
    said = broken[0]["broken"] if broken else None
    if len(broken) > 1:
        said = f"{len(broken)} of {len(urls)} devices; the first: {said}"
    return TestOutcome(passed, failed, skipped, said, merged, open_)


def _run(bundle: Path, devices: Sequence[str], folder: Path, words: Sequence[str], stream: bool) -> Mapping[str, Any]:
    """One pytest. Raises ConfigError on an option that it refuses."""
    folder.mkdir()
    report = folder / "report.json"
    argv = [*_command(bundle, devices, folder, report), *words, f"--junitxml={folder / 'junit.xml'}"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    output = _STDERR if stream else subprocess.PIPE
    done = subprocess.run(
        argv, stdout=output, stderr=subprocess.PIPE, text=True, errors="replace", env=environment, check=False
    )
    said = f"{done.stdout or ''}{done.stderr}"
    if done.returncode == _USAGE:
        wrong = next((line for line in said.splitlines() if line.startswith(_WRONG)), said)
        raise ConfigError(wrong.removeprefix(_WRONG).replace(_FLAG, "--"))
    if stream:
        sys.stderr.write(done.stderr)
    if done.returncode not in (_PASSED, _FAILED):
        raise RuntimeError(f"pytest ended with exit code {done.returncode}: {said}")
    if done.returncode == _FAILED and not stream:
        log.warning("%s", said)
    parsed: Mapping[str, Any] = json.loads(report.read_text())
    return parsed


def _command(bundle: Path, devices: Sequence[str], folder: Path, report: Path) -> list[str]:
    settings = folder / "pytest.ini"  # the tests' own: those of the caller's project do not apply
    settings.write_text("[pytest]\naddopts = -ra -q --tb=short\njunit_family = xunit1\n")
    return [
        *(sys.executable, "-m", "pytest", "-c", str(settings), "-p", "no:cacheprovider"),
        # By their path: for a module's name, pytest would first import the conftest.py of the caller's own tests.
        *("--rootdir", str(_suites().parent), str(_suites()), "--edgekit-bundle", str(bundle.resolve())),
        *(f"--edgekit-device={url}" for url in devices),
        *("--edgekit-report", str(report)),
    ]


def _merge_junit(parts: Sequence[Path], path: Path) -> None:
    """All suites in one file, whole or not at all. Raises OutputError."""
    merged = ElementTree.Element("testsuites", name="edgekit")
    for part in parts:
        merged.extend(ElementTree.parse(part).getroot())
    with atomic(path.resolve()) as temporary:
        ElementTree.ElementTree(merged).write(temporary, encoding="utf-8", xml_declaration=True)


def _suites() -> Path:
    package = find_spec("edgekit_device_tests")
    if package is None or package.origin is None:
        raise ConfigError("the device tests are not installed: pip install edgekit")
    return Path(package.origin).parent
