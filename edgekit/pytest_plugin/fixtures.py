"""Fixtures: the bundle, the device, the bundle on it, and what it answers there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar, cast

import pytest

from edgekit.errors import DeviceError
from edgekit.pytest_plugin.evaluating import EVALUATION
from edgekit.pytest_plugin.harness import OnDevice, Record, harness_of
from edgekit.pytest_plugin.markers import why_skip
from edgekit.pytest_plugin.options import NO_BUNDLE, OPTIONS, Options

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.data import Data
    from edgekit.devices import DeployedBundle, DeviceRun, Transport
    from edgekit.devices.deploy import ZipappBundle
    from edgekit.devices.traits import Traits
    from edgekit.devices.transport import Heard
    from edgekit.manifest import Variant
    from edgekit.runtime.golden import GoldenResult
    from edgekit.runtime.golden_texts import TextResult
    from edgekit.runtime.survey import Probe

Answer = TypeVar("Answer")


@pytest.fixture(scope="session")
def edgekit_options(request: pytest.FixtureRequest) -> Options:
    """What was asked for on the command line."""
    return request.config.stash[OPTIONS]


@pytest.fixture(scope="session")
def edgekit_bundle(request: pytest.FixtureRequest) -> Iterator[Bundle]:
    """The bundle under test, open on this machine."""
    from edgekit.bundle import Bundle

    path = request.config.stash[OPTIONS].bundle
    if path is None:
        pytest.skip(NO_BUNDLE)
    with Bundle.open(path) as bundle:
        yield bundle


@pytest.fixture(scope="session")
def edgekit_device(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """A device that is ours for the session. Without it, tests skip with the reason, or fail where it is required."""
    from edgekit.devices.leases import leased_device

    options, harness = request.config.stash[OPTIONS], harness_of(request.config)
    url = getattr(request, "param", options.devices[0])
    leased = leased_device(url, wait_s=options.lease_wait_s)
    try:
        device, lease = leased.__enter__()
    except DeviceError as problem:
        if options.require_device:
            raise
        harness.devices[url].broken = str(problem)
        pytest.skip(f"no device: {problem}")
    harness.leases[url] = lease
    if options.live:
        device.listener = _screen(request.config, url)
    yield device
    harness.leases.pop(url)
    leased.__exit__(None, None, None)


@pytest.fixture(scope="session")
def edgekit_deployed(edgekit_bundle: Bundle, edgekit_device: Transport, edgekit_options: Options) -> DeployedBundle:
    """The bundle on the device."""
    from edgekit.devices import deploy

    return deploy(edgekit_bundle.path, edgekit_device, vendor_wheels=edgekit_options.vendor_wheels)


@pytest.fixture(scope="session")
def edgekit_baseline(request: pytest.FixtureRequest, edgekit_device: Transport) -> DeployedBundle:
    """The older bundle on the device; tests skip without one."""
    from edgekit.devices import deploy

    path = request.config.stash[OPTIONS].baseline
    if path is None:
        pytest.skip("no baseline: --edgekit-baseline OLD.edgekit")
    options = request.config.stash[OPTIONS]
    return deploy(path, edgekit_device, vendor_wheels=options.vendor_wheels)


@pytest.fixture(scope="session")
def edgekit_probe(request: pytest.FixtureRequest, edgekit_deployed: DeployedBundle) -> Probe:
    """What the runtime finds on the device."""
    probe = edgekit_deployed.probe()
    _state(request, edgekit_deployed).probe = asdict(probe)
    return probe


@pytest.fixture(scope="session")
def edgekit_traits(request: pytest.FixtureRequest, edgekit_deployed: DeployedBundle, edgekit_probe: Probe) -> Traits:
    """What markers ask for: engines, accelerators, memory, whether it is real."""
    from edgekit.devices.traits import read_traits

    traits = read_traits(edgekit_deployed.device, edgekit_probe)
    _state(request, edgekit_deployed).traits = asdict(traits)
    return traits


@pytest.fixture
def edgekit_admitted(request: pytest.FixtureRequest, edgekit_traits: Traits) -> None:
    """Skips a test whose markers ask for what the device is not; marked tests have it of themselves."""
    reason = why_skip(request.node, edgekit_traits)
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def edgekit_variant(request: pytest.FixtureRequest, edgekit_bundle: Bundle, edgekit_probe: Probe) -> Variant:
    """One variant whose engine is on the device; the others skip, or fail under --edgekit-require-device."""
    from edgekit.runtime.engines import why_not
    from edgekit.runtime.opening import plan_refusal

    variant = edgekit_bundle.variant(request.param)
    engines = {engine.name: engine for engine in edgekit_probe.engines}
    reason = why_not(variant, engines, plan_refused=plan_refusal(edgekit_bundle))
    if reason is not None and request.config.stash[OPTIONS].require_device:
        pytest.fail(f"{variant.id} cannot run on the device: {reason}", pytrace=False)
    if reason is not None:
        pytest.skip(f"{variant.id} cannot run on the device: {reason}")
    return variant


@pytest.fixture
def edgekit_golden(edgekit_golden_run: DeviceRun, edgekit_bundle: Bundle, edgekit_variant: Variant) -> GoldenResult:
    """What the variant gave there, held to the golden outputs here: starting it once more would cost most of a test."""
    from edgekit.runtime.golden import judge, read_golden

    run, limit = edgekit_golden_run, edgekit_variant.golden_tolerance
    return judge(run.choice, run.outputs, read_golden(edgekit_bundle), limit=limit)


@pytest.fixture
def edgekit_language_device(edgekit_deployed: DeployedBundle) -> ZipappBundle:
    """A language model's bundle, which goes only to devices with Python."""
    return cast("ZipappBundle", edgekit_deployed)


@pytest.fixture
def edgekit_texts(
    request: pytest.FixtureRequest, edgekit_language_device: ZipappBundle, edgekit_variant: Variant
) -> TextResult:
    """The variant of a language model held to the golden texts there; asked once for all tests."""

    def ask() -> TextResult:
        (result,) = edgekit_language_device.texts(edgekit_variant.id).results
        return result

    return _once(request, edgekit_language_device, edgekit_variant.id, "texts", ask)


@pytest.fixture
def edgekit_golden_run(
    request: pytest.FixtureRequest, edgekit_bundle: Bundle, edgekit_deployed: DeployedBundle, edgekit_variant: Variant
) -> DeviceRun:
    """The variant's outputs on the golden inputs there; asked once for all tests."""
    from edgekit.runtime.golden import read_golden

    def ask() -> DeviceRun:
        return edgekit_deployed.run(read_golden(edgekit_bundle).inputs, variant=edgekit_variant.id)

    return _once(request, edgekit_deployed, edgekit_variant.id, "run", ask)


@pytest.fixture(scope="session")
def edgekit_evaluation(request: pytest.FixtureRequest) -> Data:
    """Labelled samples, spread over the data of --edgekit-evaluation; tests skip without."""
    data = request.config.stash[EVALUATION]
    if data is None:
        pytest.skip("no labelled data: --edgekit-evaluation DATA.npz")
    return data


@pytest.fixture
def edgekit_record(
    request: pytest.FixtureRequest, edgekit_device: Transport, record_property: Callable[[str, object], None]
) -> Record:
    """`edgekit_record(variant_id, figures)`: keep figures as JUnit properties and in the report."""
    figures = harness_of(request.config).devices[edgekit_device.url].figures

    def record(variant: str, values: Mapping[str, object]) -> None:
        figures.setdefault(variant, {}).update(values)
        for name, value in values.items():
            record_property(f"{variant}.{name}", value)

    return record


def _screen(config: pytest.Config, url: str) -> Heard:
    """Lines among pytest's own, whatever is captured; a worker of pytest-xdist has no terminal."""
    from edgekit.devices.transport import line_of, logged

    terminal, capture = map(config.pluginmanager.get_plugin, ("terminalreporter", "capturemanager"))
    if terminal is None:
        return logged

    def heard(line: str) -> None:
        with nullcontext() if capture is None else capture.global_and_fixture_disabled():  # as pytest's own live logs
            terminal.write_line(line_of(url, line))
            terminal.flush()

    return heard


def _state(request: pytest.FixtureRequest, deployed: DeployedBundle) -> OnDevice:
    return harness_of(request.config).devices[deployed.device.url]


def _once(
    request: pytest.FixtureRequest, deployed: DeployedBundle, variant: str, question: str, ask: Callable[[], Answer]
) -> Answer:
    answers = harness_of(request.config).answers
    key = (deployed.device.url, variant, question)
    if key not in answers:
        answers[key] = ask()
    return answers[key]  # type: ignore[return-value]  # what `ask` gave
