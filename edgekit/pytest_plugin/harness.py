"""What the tests of one session share, and the report that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any  # Any: items of pytest, which have attributes of their kind

import pytest

if TYPE_CHECKING:
    from edgekit.devices.leases import Lease

Record = Callable[[str, Mapping[str, object]], None]

REPORT_FORMAT, REPORT_VERSION = "edgekit-device-report", 2
DEVICE_FIXTURE = "edgekit_device"
INCONCLUSIVE = "inconclusive"
VERDICT = "edgekit.verdict"  # a property of a test that reached one


@dataclass
class OnDevice:
    """What is known of one device: the first trouble with it, and its figures."""

    url: str
    broken: str | None = None
    probe: Mapping[str, object] | None = None
    traits: Mapping[str, object] | None = None
    figures: dict[str, dict[str, object]] = field(default_factory=dict)  # by variant
    gate: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Subject:
    """The bundle under test."""

    path: str
    name: str
    version: str
    variants: tuple[str, ...]


@dataclass
class Harness:
    """One session."""

    devices: dict[str, OnDevice]
    subject: Subject | None
    commit: str | None
    speaks: bool = False  # whether the bundle under test holds a language model
    tests: list[dict[str, object]] = field(default_factory=list)
    leases: dict[str, Lease] = field(default_factory=dict)
    answers: dict[tuple[str, str, str], object] = field(default_factory=dict)  # (URL, variant, question) -> reply

    def report(self) -> dict[str, object]:
        """What --edgekit-report writes."""
        return {
            "format": REPORT_FORMAT,
            "format_version": REPORT_VERSION,
            "bundle": None if self.subject is None else asdict(self.subject),
            "commit": self.commit,
            "devices": [asdict(device) for device in self.devices.values()],
            "tests": self.tests,
        }

    def properties(self, url: str | None) -> list[tuple[str, object]]:
        """What every test's record in JUnit says."""
        named: dict[str, object | None] = {"device": url, "commit": self.commit}
        if self.subject is not None:
            named |= {"bundle": self.subject.name, "bundle_version": self.subject.version}
        return [(name, value) for name, value in named.items() if value is not None]


HARNESS: pytest.StashKey[Harness] = pytest.StashKey()


def harness_of(config: pytest.Config) -> Harness:
    """The session's."""
    return config.stash[HARNESS]


def uses_device(item: Any) -> bool:
    """Whether a test asks for a device, itself or through a fixture."""
    return DEVICE_FIXTURE in getattr(item, "fixturenames", ())


def device_of(item: Any) -> OnDevice | None:
    """The device that a test runs on, or None."""
    callspec = getattr(item, "callspec", None)
    url = None if callspec is None else callspec.params.get(DEVICE_FIXTURE)
    return None if url is None else harness_of(item.config).devices[url]
