"""A bundle on a device, whatever runs it there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from edgekit.devices.transport import Transport
from edgekit.manifest import Manifest, Member
from edgekit.runtime.choosing import Choice
from edgekit.runtime.survey import BenchReply, GoldenReply, Probe, VerifyReply
from edgekit.runtime.timing import DEFAULT_RUNS, DEFAULT_WARMUP
from edgekit.tensors import Array


@dataclass(frozen=True)
class DeviceRun:
    """Outputs by name, and what ran to give them."""

    outputs: Mapping[str, Array]
    choice: Choice


class DeployedBundle(Protocol):
    """Questions to a bundle on a device. All raise DeviceError, and what goes wrong there under its own type."""

    @property
    def device(self) -> Transport:
        """The way there."""
        ...

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""
        ...

    @property
    def sha256(self) -> str:
        """Of the bundle."""
        ...

    @property
    def members(self) -> tuple[Member, ...]:
        """What the device needs of the bundle."""
        ...

    @property
    def installed(self) -> Mapping[str, str]:
        """What a version on the device consists of: name -> remote path."""
        ...

    def probe(self) -> Probe:
        """What the device is and which engines it has."""
        ...

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        variant: str | None = None,
        threads: int = 1,
        accelerator: str | None = None,
    ) -> DeviceRun:
        """Run once on the device, on the `accelerator` that is named (`open_bundle`)."""
        ...

    def bench(
        self,
        variant: str | None = None,
        *,
        every: bool = False,
        warmup: int = DEFAULT_WARMUP,
        runs: int = DEFAULT_RUNS,
        threads: int = 1,
        profile: bool = False,
        accelerator: str | None = None,
    ) -> BenchReply:
        """Latency on the device: of one variant, of the best there (None), or of `every` variant in turns.

        With `profile`, operators, memory and energy too. Raises ConfigError where nothing there tells of them.
        """
        ...

    def golden(self, variant: str | None = None, *, every: bool = False) -> GoldenReply:
        """How far variants on the device are from the golden outputs."""
        ...

    def verify(self) -> VerifyReply:
        """Check the hash of every member that the device needs, there."""
        ...
