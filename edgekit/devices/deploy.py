"""Bring the runtime and a bundle to a device, and ask them questions there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgekit.bundle import Bundle
from edgekit.devices.deployed import DeployedBundle, DeviceRun
from edgekit.devices.facts import probe_facts
from edgekit.devices.native import deploy_native
from edgekit.devices.pushing import push_all, push_once, remove
from edgekit.devices.remedies import what_is_missing
from edgekit.devices.replies import read_reply, spoken
from edgekit.devices.transport import Transport
from edgekit.devices.vendoring import push_wheels
from edgekit.devices.zipapp import write_zipapp
from edgekit.errors import DeviceError, EngineError
from edgekit.manifest import Manifest, Member
from edgekit.runtime.arrays import read_npz, write_npz
from edgekit.runtime.sampling import Sampling
from edgekit.runtime.survey import BenchReply, GoldenReply, Probe, RunReply, VerifyReply
from edgekit.runtime.text_survey import TextsReply, TokensReply
from edgekit.runtime.text_timing import DEFAULT_TEXTS, TextBenched
from edgekit.runtime.timing import DEFAULT_RUNS, DEFAULT_WARMUP
from edgekit.strict import parse
from edgekit.tensorrt.cache import BUILD_TIMEOUT_S
from edgekit.tensors import Array
from edgekit.trust import check_signature

TIMEOUT_S = 600.0

Reply = TypeVar("Reply")


def deploy(
    path: Path,
    device: Transport,
    *,
    timeout_s: float = TIMEOUT_S,
    require_signature: bool = False,
    trust: Path | None = None,
    vendor_wheels: Path | None = None,
) -> DeployedBundle:
    """Check a bundle here, then push it and what runs it: the runtime, or on a device without Python the native runner.

    Raises BundleError, DeviceError, and EngineError when there is no native runner for the device, or the bundle holds
    a language model, which needs Python there.

    `timeout_s` bounds every later question to the device, beside the time for engines that it must build first.
    `require_signature` and `trust` are as `open_bundle` takes them, for the check here; a policy on the device holds
    there. The wheels of the folder `vendor_wheels` that fit go along, for a device without numpy or an engine.
    """
    with Bundle.open(path) as bundle:
        check_signature(bundle, require=require_signature, trust=trust)
        manifest = bundle.manifest
        wheels = () if vendor_wheels is None else push_wheels(device, vendor_wheels)
        if device.python is None:
            _check_needs_no_python(manifest, device)
            return deploy_native(bundle, device, timeout_s=timeout_s)
    with tempfile.TemporaryDirectory(prefix="edgekit-deploy-") as folder:
        zipapp = Path(folder, "runtime.pyz")
        write_zipapp(zipapp)
        runtime, remote = push_all(device, [zipapp, path])
    return ZipappBundle(device, manifest, runtime, remote, timeout_s, wheels)


def _check_needs_no_python(manifest: Manifest, device: Transport) -> None:
    """Raise EngineError for what the native runner, a process for each call, cannot do."""
    if manifest.language is not None:
        raise EngineError(
            f"{device.url} has no Python, and the runner for it keeps nothing from token to token, which "
            f"'{manifest.name}' needs: give the app the .tflite that edgekit convert --context makes, or take a board "
            "with Python"
        )


@dataclass(frozen=True)
class ZipappBundle:
    """A bundle on a device with Python. An error that the runtime reports there is raised here under its own type."""

    device: Transport
    manifest: Manifest
    runtime: str  # remote path of runtime.pyz
    remote: str  # remote path of the bundle
    timeout_s: float = TIMEOUT_S
    wheels: tuple[str, ...] = ()  # remote folders that the runtime imports from before all others

    @property
    def python(self) -> str:
        """What starts Python 3 there."""
        return self.device.python or "python3"

    @property
    def members(self) -> tuple[Member, ...]:
        """What the device needs of the bundle: all."""
        return self.manifest.members

    @property
    def installed(self) -> Mapping[str, str]:
        """What a version on the device consists of: name -> remote path."""
        return {Path(remote).name: remote for remote in (self.remote, self.runtime)}

    @property
    def sha256(self) -> str:
        """Of the bundle."""
        return Path(self.remote).parent.name

    def probe(self) -> Probe:
        """What the device is and which engines it has."""
        return self._ask(Probe, "probe")

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        variant: str | None = None,
        threads: int = 1,
        accelerator: str | None = None,
    ) -> DeviceRun:
        """Run once on the device, on the `accelerator` that is named (`open_bundle`)."""
        with tempfile.TemporaryDirectory(prefix="edgekit-run-") as folder:
            given, got = Path(folder, "inputs"), Path(folder, "outputs")
            write_npz(given, inputs)
            remote = push_once(self.device, given)
            answer = remote.replace("inputs", "outputs")
            try:
                argv = ["run", self.remote, "--input", remote, "--output", answer, f"--threads={threads}"]
                reply = self._ask(RunReply, *argv, *_choose(variant), *_accelerated(accelerator), building=True)
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
        profile: bool = False,
        accelerator: str | None = None,
    ) -> BenchReply:
        """Latency on the device: of one variant, of the best there (None), or of `every` variant in turns."""
        asked = [f"--warmup={warmup}", f"--runs={runs}", f"--threads={threads}", *(["--profile"] if profile else [])]
        asked += [*_choose(variant, every), *_accelerated(accelerator)]
        return self._ask(BenchReply, "bench", self.remote, *asked, building=True)

    def golden(self, variant: str | None = None, *, every: bool = False) -> GoldenReply:
        """How far variants on the device are from the golden outputs."""
        return self._ask(GoldenReply, "golden", self.remote, *_choose(variant, every), building=True)

    def verify(self) -> VerifyReply:
        """Check every member's hash on the device."""
        return self._ask(VerifyReply, "verify", self.remote)

    def follow(
        self,
        prompt: Sequence[int],
        *,
        sampling: Sampling,
        max_tokens: int | None = None,
        variant: str | None = None,
        threads: int = 1,
    ) -> TokensReply:
        """The tokens that a language model on the device adds to those of a prompt."""
        settings = {**vars(sampling), "max_tokens": max_tokens}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items() if value is not None]
        tokens = ",".join(map(str, prompt))
        asked = [f"--prompt={tokens}", f"--threads={threads}", *words]
        return self._ask(TokensReply, "follow", self.remote, *asked, *_choose(variant))

    def texts(self, variant: str | None = None, *, every: bool = False) -> TextsReply:
        """How well variants of a language model on the device do on the golden texts."""
        return self._ask(TextsReply, "texts", self.remote, *_choose(variant, every))

    def bench_texts(
        self,
        variant: str | None = None,
        *,
        texts: int = DEFAULT_TEXTS,
        prompt_tokens: int | None = None,
        new_tokens: int | None = None,
        threads: int = 1,
    ) -> TextBenched:
        """How fast a variant of a language model on the device reads and writes."""
        lengths = {"prompt-tokens": prompt_tokens, "new-tokens": new_tokens}
        words = [f"--{name}={count}" for name, count in lengths.items() if count is not None]
        asked = [f"--texts={texts}", f"--threads={threads}", *words]
        return self._ask(TextBenched, "bench-texts", self.remote, *asked, *_choose(variant))

    def _ask(self, kind: type[Reply], *arguments: str, building: bool = False) -> Reply:
        """`building` leaves time for the engines that the device may have to build first."""
        engines = sum(variant.tensorrt is not None for variant in self.manifest.variants) if building else 0
        timeout_s = self.timeout_s + engines * BUILD_TIMEOUT_S
        path = ["env", f"PYTHONPATH={':'.join(self.wheels)}"] if self.wheels else []
        argv = [*path, self.python, self.runtime, *arguments]
        result = self.device.run(argv, timeout_s=timeout_s, heard=spoken(self.device.listener))
        try:
            reply = read_reply(result, self.device.url)
        except (EngineError, DeviceError) as problem:
            raise self._explained(problem) from problem
        return parse(kind, reply, where=f"{self.device.url} {arguments[0]}", error=DeviceError)

    def _explained(self, problem: EngineError | DeviceError) -> EngineError | DeviceError:
        """With what to install, where a package that the bundle needs is not there."""
        if self.wheels:
            return problem
        try:
            missing = what_is_missing(probe_facts(self.device), self.manifest)
        except DeviceError:  # it does not answer that either: the first trouble is what counts
            return problem
        return problem if missing is None else EngineError(f"{self.device.url}: {missing} ({problem})")


def _accelerated(accelerator: str | None) -> list[str]:
    return [] if accelerator is None else [f"--accelerator={accelerator}"]


def _choose(variant: str | None, every: bool = False) -> list[str]:
    if every:
        return ["--all"]
    return [] if variant is None else [f"--variant={variant}"]
