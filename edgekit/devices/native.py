"""A bundle on a device without Python: the native runner runs its TFLite there, and all else is done here.

Inputs are quantized and outputs compared on this machine by the same code as everywhere, so that the device moves raw
tensors alone. What is timed there is LiteRT: inputs in, run, outputs out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from edgekit.bundle import Bundle
from edgekit.devices.deployed import DeviceRun
from edgekit.devices.native_runner import LITERT, NativePhone, NativeRunner
from edgekit.devices.pushing import push_all, remote_sha256s, remove
from edgekit.devices.transport import Transport, checked
from edgekit.errors import BundleError, ConfigError, EngineError
from edgekit.files import sha256_file
from edgekit.manifest import Manifest, Member, Variant
from edgekit.native import Kit, find_kit
from edgekit.native.building import abi_of
from edgekit.native.kits import RUNNER
from edgekit.runtime import survey
from edgekit.runtime.golden import read_golden
from edgekit.runtime.opening import open_session
from edgekit.runtime.sequences import run_samples
from edgekit.runtime.session import Session
from edgekit.runtime.survey import Benched, BenchReply, GoldenReply, Probe, VerifyReply
from edgekit.runtime.timing import BLOCK_RUNS, DEFAULT_RUNS, DEFAULT_WARMUP, summarize
from edgekit.tensors import Array

_SHORT_S = 60.0


def deploy_native(bundle: Bundle, device: Transport, *, timeout_s: float) -> NativeBundle:
    """Push the runner's kit and the TFLite members. Raises DeviceError, EngineError without a kit for the device."""
    machine = checked(device, ["uname", "-m"], timeout_s=_SHORT_S).stdout.strip()
    abi = abi_of(machine)
    if abi is None:
        raise EngineError(f"{device.url}: there is no native runner for {machine}")
    kit = find_kit(abi)
    phone = NativePhone(device, kit, _push_kit(device, kit), timeout_s)
    members = {item.id: phone.push_model(bundle.read(item.member.path)) for item in _tflite(bundle.manifest)}
    return NativeBundle(device, bundle.manifest, bundle.path, phone, members)


def _push_kit(device: Transport, kit: Kit) -> tuple[str, ...]:
    """The command that starts the runner. The loader finds libraries in the folders that their hashes name."""
    remotes = dict(zip((path.name for path in kit.files), push_all(device, kit.files), strict=True))
    folders = ":".join(str(Path(remote).parent) for name, remote in remotes.items() if ".so" in name)
    return (f"./{remotes[kit.loader]}", "--library-path", folders, remotes[RUNNER])


def _tflite(manifest: Manifest) -> list[Variant]:
    return [variant for variant in manifest.variants if variant.engine == LITERT]


@dataclass(frozen=True)
class NativeBundle:
    """A bundle whose TFLite members are on a device without Python."""

    device: Transport
    manifest: Manifest
    path: Path  # of the bundle, here
    phone: NativePhone
    remotes: Mapping[str, str]  # variant -> remote path

    @property
    def sha256(self) -> str:
        """Of the bundle."""
        return sha256_file(self.path)

    @property
    def members(self) -> tuple[Member, ...]:
        """The TFLite files: what an app on the device opens."""
        return tuple(variant.member for variant in _tflite(self.manifest))

    @property
    def installed(self) -> Mapping[str, str]:
        """The TFLite files under their names in the bundle."""
        return {Path(item.member.path).name: self.remotes[item.id] for item in _tflite(self.manifest)}

    def probe(self) -> Probe:
        """What the device is and which engines it has."""
        words = checked(self.device, ["sh", "-c", "uname -s; uname -m; nproc"], timeout_s=_SHORT_S).stdout.split()
        engines = tuple(self.phone.find().values())
        return Probe(words[0], words[1], int(words[2]), python="none", numpy="none", engines=engines)

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        variant: str | None = None,
        threads: int = 1,
        accelerator: str | None = None,
    ) -> DeviceRun:
        """Run once on the device, on the `accelerator` that is named (`open_bundle`)."""
        with (
            Bundle.open(self.path) as bundle,
            self._session(bundle, accelerator, variant=variant, threads=threads) as session,
        ):
            return DeviceRun(run_samples(session, inputs), session.choice)

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
        """Latency of LiteRT on the device, on the first golden input; several variants take turns."""
        if profile:
            raise ConfigError(f"{self.device.url}: the native runner tells nothing of operators; leave out --profile")
        if runs < 1 or warmup < 0:
            raise ConfigError(f"runs is {runs}, warmup {warmup}; expected at least 1 and 0")
        with Bundle.open(self.path) as bundle, ExitStack() as stack:
            sample = read_golden(bundle).first
            wanted = survey.every_variant(bundle) if every else [variant]
            open_one = partial(self._session, bundle, accelerator, threads=threads)
            sessions, rejected = survey.open_each(open_one, wanted, stack, strict=not every)
            if not sessions:
                return BenchReply((), rejected)
            words = ["bench", str(threads), str(warmup), str(runs), str(BLOCK_RUNS)]
            samples = self._timed(words, list(sessions.values()), sample)
        results = zip(sessions.values(), samples, strict=True)
        return BenchReply(tuple(Benched(it.choice, summarize(taken, warmup=warmup)) for it, taken in results), rejected)

    def golden(self, variant: str | None = None, *, every: bool = False) -> GoldenReply:
        """How far variants on the device are from the golden outputs."""
        with Bundle.open(self.path) as bundle:
            wanted = survey.every_variant(bundle) if every else [variant]
            progress = self.device.listener
            return survey.golden(bundle, wanted, threads=1, progress=progress, strict=not every, shelf=self.phone)

    def verify(self) -> VerifyReply:
        """Check the hash of every TFLite member, there. Raises BundleError."""
        there = remote_sha256s(self.device, list(self.remotes.values()))
        for item in _tflite(self.manifest):
            found = there.get(self.remotes[item.id])
            if found != item.member.sha256:
                raise BundleError(f"{self.device.url}: {item.member.path} has sha256 {found} there, not the manifest's")
        return VerifyReply(self.members)

    def _session(self, bundle: Bundle, accelerator: str | None, *, variant: str | None, threads: int) -> Session:
        return open_session(bundle, variant=variant, threads=threads, accelerator=accelerator, shelf=self.phone)

    def _timed(self, words: Sequence[str], sessions: Sequence[Session], sample: Mapping[str, Array]) -> list[list[int]]:
        """Nanoseconds of each run of each session's model."""
        given: list[str] = []
        pairs: list[str] = []
        try:
            for session in sessions:
                runner = cast(NativeRunner, session.runner)
                given.append(runner.push_inputs([session.prepared(sample)]))
                pairs += [runner.remote, given[-1]]
            reply = self.phone.ask(*words, *pairs)
        finally:
            remove(self.device, *given)
        return cast(list[list[int]], reply["samples_ns"])
