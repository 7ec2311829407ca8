"""The harness: a bundle on a device, as pytest options and fixtures.

pytest loads this module wherever edgekit is installed, so it imports nothing heavy before a fixture is used.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgekit.errors import DeviceError, EdgekitError

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.devices import DeployedBundle, Transport
    from edgekit.manifest import Variant
    from edgekit.runtime.survey import Probe

Record = Callable[[str, Mapping[str, object]], None]
ReportWrapper = Generator[None, pytest.TestReport, pytest.TestReport]

NO_BUNDLE = "no bundle: pytest --pyargs edgekit_device_tests --edgekit-bundle NAME.edgekit --edgekit-device local:"
REPORT_FORMAT = "edgekit-device-report"

_DEVICE_FIXTURES = {"edgekit_device", "edgekit_deployed"}


@dataclasses.dataclass
class Harness:
    """What the tests of one session share: the first trouble with the device, and the figures."""

    broken: str | None = None
    probe: Mapping[str, object] | None = None
    figures: dict[str, dict[str, object]] = dataclasses.field(default_factory=dict)
    tests: list[dict[str, object]] = dataclasses.field(default_factory=list)


_HARNESS: pytest.StashKey[Harness] = pytest.StashKey()
_VARIANTS: pytest.StashKey[list[str] | None] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the harness's options."""
    group = parser.getgroup("edgekit", "edge models on devices")
    group.addoption("--edgekit-bundle", metavar="FILE", help="the bundle to test")
    group.addoption("--edgekit-device", metavar="URL", default="local:", help="the device to test it on")
    group.addoption(
        "--edgekit-require-device",
        action="store_true",
        help="fail, rather than skip, without the device or without a variant's engine on it",
    )
    group.addoption("--edgekit-report", metavar="FILE", help="write the figures there as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Begin with an unbroken device, and a bundle that can be read. Raises UsageError."""
    path = config.getoption("edgekit_bundle")
    config.stash[_HARNESS] = Harness()
    if path is None and config.getoption("edgekit_require_device"):
        raise pytest.UsageError(f"--edgekit-require-device would pass with every test skipped: {NO_BUNDLE}")
    config.stash[_VARIANTS] = None if path is None else _variant_ids(Path(path))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each variant of the bundle, where a test asks for `edgekit_variant`."""
    if "edgekit_variant" not in metafunc.fixturenames:
        return
    ids = metafunc.config.stash[_VARIANTS]
    missing = pytest.param("none", marks=pytest.mark.skip(reason=NO_BUNDLE))
    metafunc.parametrize("edgekit_variant", [missing] if ids is None else ids, indirect=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a device that is latched broken."""
    broken = item.config.stash[_HARNESS].broken
    if broken is not None and _DEVICE_FIXTURES.intersection(getattr(item, "fixturenames", ())):
        pytest.skip(f"the device is broken: {broken}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> ReportWrapper:
    """Latch the device as broken at its first failure, and note how each test that uses it ended."""
    report = yield
    harness = item.config.stash[_HARNESS]
    if harness.broken is None and call.excinfo is not None and isinstance(call.excinfo.value, DeviceError):
        harness.broken = str(call.excinfo.value)
    uses_bundle = "edgekit_bundle" in getattr(item, "fixturenames", ())
    if uses_bundle and (report.when == "call" or report.outcome != "passed"):
        harness.tests.append({"name": item.name, "when": report.when, "outcome": report.outcome})
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report."""
    config = session.config
    path = config.getoption("edgekit_report")
    if path:
        from edgekit.files import write_text

        harness = config.stash[_HARNESS]
        report = {
            "format": REPORT_FORMAT,
            "format_version": 1,
            "bundle": config.getoption("edgekit_bundle"),
            "device": config.getoption("edgekit_device"),
            **dataclasses.asdict(harness),
        }
        write_text(Path(path), json.dumps(report, indent=2, allow_nan=False) + "\n")


@pytest.fixture(scope="session")
def edgekit_bundle(request: pytest.FixtureRequest) -> Iterator[Bundle]:
    """The bundle under test, open on this machine."""
    from edgekit.bundle import Bundle

    path = request.config.getoption("edgekit_bundle")
    if path is None:
        pytest.skip(NO_BUNDLE)
    with Bundle.open(path) as bundle:
        yield bundle


@pytest.fixture(scope="session")
def edgekit_device(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """The device. Without one, tests skip with the reason, or fail under --edgekit-require-device."""
    from edgekit.devices import open_device

    try:
        device = open_device(str(request.config.getoption("edgekit_device")))
    except DeviceError as problem:
        if request.config.getoption("edgekit_require_device"):
            raise
        request.config.stash[_HARNESS].broken = str(problem)
        pytest.skip(f"no device: {problem}")
    yield device
    device.close()


@pytest.fixture(scope="session")
def edgekit_deployed(edgekit_bundle: Bundle, edgekit_device: Transport) -> DeployedBundle:
    """The bundle on the device."""
    from edgekit.devices import deploy

    return deploy(edgekit_bundle.path, edgekit_device)


@pytest.fixture(scope="session")
def edgekit_probe(request: pytest.FixtureRequest, edgekit_deployed: DeployedBundle) -> Probe:
    """What the device is and has."""
    probe = edgekit_deployed.probe()
    request.config.stash[_HARNESS].probe = dataclasses.asdict(probe)
    return probe


@pytest.fixture
def edgekit_variant(request: pytest.FixtureRequest, edgekit_bundle: Bundle, edgekit_probe: Probe) -> Variant:
    """One variant whose engine is on the device; the others skip, or fail under --edgekit-require-device."""
    from edgekit.runtime.engines import why_not

    variant = edgekit_bundle.variant(request.param)
    reason = why_not(variant, {engine.name: engine for engine in edgekit_probe.engines})
    if reason is not None and request.config.getoption("edgekit_require_device"):
        pytest.fail(f"{variant.id} cannot run on the device: {reason}", pytrace=False)
    if reason is not None:
        pytest.skip(f"{variant.id} cannot run on the device: {reason}")
    return variant


@pytest.fixture
def edgekit_record(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Record:
    """`edgekit_record(variant_id, figures)`: keep figures as JUnit properties and in the report."""
    figures = request.config.stash[_HARNESS].figures

    def record(variant: str, values: Mapping[str, object]) -> None:
        figures.setdefault(variant, {}).update(values)
        for name, value in values.items():
            record_property(f"{variant}.{name}", value)

    return record


def _variant_ids(path: Path) -> list[str]:
    from edgekit.bundle import Bundle

    try:
        with Bundle.open(path) as bundle:
            return [variant.id for variant in bundle.manifest.variants]
    except EdgekitError as problem:
        raise pytest.UsageError(str(problem)) from problem
