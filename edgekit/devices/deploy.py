"""Bring the runtime and a bundle to a device, and ask them questions there."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar  # Any: JSON

from edgekit import errors
from edgekit.bundle import Bundle
from edgekit.devices.pushing import push_by_content, remove
from edgekit.devices.transport import CommandResult, Transport, describe_failure
from edgekit.devices.zipapp import write_zipapp
from edgekit.errors import DeviceError, EdgekitError
from edgekit.manifest import Manifest
from edgekit.runtime.arrays import read_npz, write_npz
from edgekit.runtime.choosing import Choice
from edgekit.runtime.survey import BenchReply, GoldenReply, Probe, RunReply, VerifyReply
from edgekit.runtime.timing import DEFAULT_RUNS, DEFAULT_WARMUP
from edgekit.strict import parse
from edgekit.tensorrt.cache import BUILD_TIMEOUT_S
from edgekit.tensors import Array
from edgekit.trust import check_signature

log = logging.getLogger(__name__)

TIMEOUT_S = 600.0

Reply = TypeVar("Reply")


def deploy(
    path: Path,
    device: Transport,
    *,
    timeout_s: float = TIMEOUT_S,
    require_signature: bool = False,
    trust: Path | None = None,
) -> DeployedBundle:
    """Check a bundle here, then push the runtime and the bundle. Raises BundleError, DeviceError.

    `timeout_s` bounds every later question to the device, beside the time for engines that it must build first.
    `require_signature` and `trust` are as `open_bundle` takes them, for the check here; a policy on the device holds
    there.
    """
    with Bundle.open(path) as bundle:
        check_signature(bundle, require=require_signature, trust=trust)
        manifest = bundle.manifest
    with tempfile.TemporaryDirectory(prefix="edgekit-deploy-") as folder:
        zipapp = Path(folder, "runtime.pyz")
        write_zipapp(zipapp)
        runtime = push_by_content(device, zipapp)
    remote = push_by_content(device, path)
    return DeployedBundle(device, manifest, runtime, remote, timeout_s)


@dataclass(frozen=True)
class DeviceRun:
    """Outputs by name, and what ran to give them."""

    outputs: Mapping[str, Array]
    choice: Choice


@dataclass(frozen=True)
class DeployedBundle:
    """A bundle on a device. An error that the runtime reports there is raised here under its own type."""

    device: Transport
    manifest: Manifest
    runtime: str  # remote path of runtime.pyz
    remote: str  # remote path of the bundle
    timeout_s: float = TIMEOUT_S

    def probe(self) -> Probe:
        """What the device is and which engines it has."""
        return self._ask(Probe, "probe")

    def run(self, inputs: Mapping[str, Array], *, variant: str | None = None, threads: int = 1) -> DeviceRun:
        """Run once on the device."""
        with tempfile.TemporaryDirectory(prefix="edgekit-run-") as folder:
            given, got = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
            write_npz(given, inputs)
            remote = push_by_content(self.device, given)
            answer = f"{remote}.outputs"
            try:
                argv = ["run", self.remote, "--input", remote, "--output", answer, f"--threads={threads}"]
                reply = self._ask(RunReply, *argv, *_choose(variant), building=True)
                self.device.pull(answer, got)
            finally:
                remove(self.device, remote, answer)
            return DeviceRun(read_npz(got), reply.choice)

    def bench(
        self,
        variant: str | None = None,
        *,
        every: bool = False,
        warmup: int = DEFAULT_WARMUP,
        runs: int = DEFAULT_RUNS,
        threads: int = 1,
    ) -> BenchReply:
        """Latency on the device: of one variant, of the best there (None), or of `every` variant in turns."""
        counts = [f"--warmup={warmup}", f"--runs={runs}", f"--threads={threads}"]
        return self._ask(BenchReply, "bench", self.remote, *counts, *_choose(variant, every), building=True)

    def golden(self, variant: str | None = None, *, every: bool = False) -> GoldenReply:
        """How far variants on the device are from the golden outputs."""
        return self._ask(GoldenReply, "golden", self.remote, *_choose(variant, every), building=True)

    def verify(self) -> VerifyReply:
        """Check every member's hash on the device."""
        return self._ask(VerifyReply, "verify", self.remote)

    def _ask(self, kind: type[Reply], *arguments: str, building: bool = False) -> Reply:
        """`building` leaves time for the engines that the device may have to build first."""
        engines = sum(variant.tensorrt is not None for variant in self.manifest.variants) if building else 0
        timeout_s = self.timeout_s + engines * BUILD_TIMEOUT_S
        result = self.device.run([self.device.python, self.runtime, *arguments], timeout_s=timeout_s)
        reply = read_reply(result, self.device.url)
        return parse(kind, reply, where=f"{self.device.url} {arguments[0]}", error=DeviceError)


def read_reply(result: CommandResult, url: str) -> dict[str, Any]:
    """The answer in the runtime's JSON lines.

    Raises the error that it reports, or DeviceError when it ended without an answer.
    """
    events = [event for line in result.stdout.splitlines() if (event := _event(line)) is not None]
    last = events[-1] if events else {}
    kind = last.pop("event", None)
    if kind == "error":
        raise _error_type(str(last.get("type")))(str(last.get("message")))
    if kind != "result" or result.exit_code != 0:
        raise DeviceError(describe_failure(result, url))
    return last


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or "event" not in event:
        log.debug("the device said: %s", line)
        return None
    return event


def _error_type(name: str) -> type[EdgekitError]:
    kind = getattr(errors, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, EdgekitError) else DeviceError


def _choose(variant: str | None, every: bool = False) -> list[str]:
    if every:
        return ["--all"]
    return [] if variant is None else [f"--variant={variant}"]
