"""What pytest calls: options, one test for each device and variant, the latch of a broken device, the report."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from edgekit.errors import DeviceCrashError, DeviceError, EdgekitError
from edgekit.pytest_plugin import markers
from edgekit.pytest_plugin.evaluating import EVALUATION, read_evaluation
from edgekit.pytest_plugin.harness import (
    DEVICE_FIXTURE,
    HARNESS,
    INCONCLUSIVE,
    VERDICT,
    Harness,
    OnDevice,
    Subject,
    device_of,
    harness_of,
    uses_device,
)
from edgekit.pytest_plugin.options import NO_BUNDLE, OPTIONS, declare, read_options

_WITH_BINARY = "test_with_benchmark_model.py"
_OF_LANGUAGE = ("edgekit_device_tests", "test_language_model.py")  # folder and file
ReportWrapper = Generator[None, pytest.TestReport, pytest.TestReport]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the harness's options."""
    declare(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Begin with unbroken devices, and a bundle that can be read. Raises UsageError."""
    for line in markers.DECLARED:
        config.addinivalue_line("markers", line)
    options = config.stash[OPTIONS] = read_options(config)
    subject, speaks = (None, False) if options.bundle is None else _read(options.bundle)
    if options.bundle is not None and options.baseline is not None:
        _check_baseline(options.bundle, options.baseline, options.variant)
    config.stash[EVALUATION] = read_evaluation(options)
    commit = None
    if subject is not None:
        from edgekit.commits import current_commit

        commit = current_commit(config.invocation_params.dir)
    config.stash[HARNESS] = Harness({url: OnDevice(url) for url in options.devices}, subject, commit, speaks)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The suite for Google's binary is there only with that binary, that of language models only with one."""
    if collection_path.parts[-2:] == _OF_LANGUAGE and not harness_of(config).speaks:
        return True
    return True if collection_path.name == _WITH_BINARY and config.stash[OPTIONS].benchmark_model is None else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each device, and for each variant of the bundle, where a test asks for them."""
    if DEVICE_FIXTURE in metafunc.fixturenames:
        urls = metafunc.config.stash[OPTIONS].devices
        metafunc.parametrize(DEVICE_FIXTURE, urls, indirect=True, scope="session", ids=urls)
    if "edgekit_variant" in metafunc.fixturenames:
        subject = harness_of(metafunc.config).subject
        missing = pytest.param("none", marks=pytest.mark.skip(reason=NO_BUNDLE))
        metafunc.parametrize("edgekit_variant", [missing] if subject is None else subject.variants, indirect=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """What a test's markers ask of its device is looked at before its other fixtures."""
    if uses_device(item) and markers.is_marked(item):
        markers.check_markers(item)
        names: list[str] = getattr(item, "fixturenames", [])
        names.insert(0, markers.ADMITTED)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a device that is latched broken; keep the lease of one that is not."""
    harness, device = harness_of(item.config), device_of(item)
    if device is not None or "edgekit_bundle" in getattr(item, "fixturenames", ()):
        item.user_properties += harness.properties(None if device is None else device.url)
    if device is None:
        return
    if device.broken is not None:
        pytest.skip(f"the device is broken: {device.broken}")
    if device.url in harness.leases:
        harness.leases[device.url].renew()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> ReportWrapper:
    """Latch a device as broken at its first failure, and note how each test that uses the bundle ended."""
    report = yield
    harness, device = harness_of(item.config), device_of(item)
    problem = None if call.excinfo is None else call.excinfo.value
    crashed = isinstance(problem, DeviceCrashError)  # of one variant: the device goes on with the others
    if device is not None and device.broken is None and isinstance(problem, DeviceError) and not crashed:
        device.broken = str(problem)
    uses_bundle = device is not None or "edgekit_bundle" in getattr(item, "fixturenames", ())
    if uses_bundle and (report.when == "call" or report.outcome != "passed"):
        harness.tests.append(_noted(item, report, device))
    return report


def _noted(item: pytest.Item, report: pytest.TestReport, device: OnDevice | None) -> dict[str, object]:
    verdict = dict(item.user_properties).get(VERDICT)
    return {
        "name": item.name,
        "device": None if device is None else device.url,
        "when": report.when,
        "outcome": INCONCLUSIVE if verdict == INCONCLUSIVE else report.outcome,
        "reason": _reason(report),
    }


def _reason(report: pytest.TestReport) -> str | None:
    if report.outcome == "passed":
        return None
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longrepr).splitlines()[0]


def pytest_sessionstart(session: pytest.Session) -> None:
    """What JUnit says of the whole suite."""
    harness = harness_of(session.config)
    junit = next((plugin for plugin in session.config.pluginmanager.get_plugins() if _is_junit(plugin)), None)
    if junit is not None and harness.subject is not None:
        for name, value in (*harness.properties(None), ("devices", ", ".join(harness.devices))):
            junit.add_global_property(name, str(value))


def _is_junit(plugin: object) -> bool:
    return hasattr(plugin, "add_global_property")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report."""
    path = session.config.stash[OPTIONS].report
    if path is not None:
        from edgekit.files import write_text

        report = harness_of(session.config).report()
        write_text(path, json.dumps(report, indent=2, allow_nan=False) + "\n")


def _check_baseline(path: Path, baseline: Path, variant: str | None) -> None:
    """Raise UsageError for one that cannot be compared with the bundle under test."""
    from edgekit.bundle import Bundle
    from edgekit.gate import check_baseline

    try:
        with Bundle.open(path) as bundle, Bundle.open(baseline) as older:
            check_baseline(bundle.manifest, older.manifest, variant)
    except EdgekitError as problem:
        raise pytest.UsageError(str(problem)) from problem


def _read(path: Path) -> tuple[Subject, bool]:
    """The bundle, and whether it holds a language model. Raises UsageError."""
    from edgekit.bundle import Bundle

    try:
        with Bundle.open(path) as bundle:
            manifest = bundle.manifest
            variants = tuple(item.id for item in manifest.variants)
            return Subject(str(path), manifest.name, manifest.version, variants), manifest.language is not None
    except EdgekitError as problem:
        raise pytest.UsageError(str(problem)) from problem
