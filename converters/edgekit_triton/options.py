"""What the user may say of a Triton model."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgekit.errors import ConfigError, did_you_mean

DATA, PIPELINE = PARALLEL = ("data", "pipeline")
_POLICY = re.compile(r"all|latest:[1-9]\d*|specific:[1-9]\d*(,[1-9]\d*)*")


@dataclass(frozen=True)
class Options:
    """The keys are the flags of `edgekit convert --to triton`; None leaves the choice to us or to Triton."""

    variant: str | None = None  # of the bundle
    precision: str | None = None  # of the variant
    name: str | None = None  # of the model in the repository; None is the bundle's name
    version_folder: int | None = None  # None is the next free number
    replace: bool = False  # overwrite that version, and files that all versions share
    max_batch: int | None = None  # of a model whose batch is open
    preferred_batch: tuple[int, ...] = ()
    max_queue_delay_us: int | None = None
    instances: int | None = None  # on each GPU, or on the CPU
    gpus: tuple[int, ...] = ()  # none: every GPU of the server
    cpu: bool = False
    parallel: str = DATA  # each GPU has the whole model and requests of its own
    version_policy: str = "latest:1"  # "all", "latest:N" or "specific:1,3"
    no_preprocessing: bool = False  # leave out the models that stand before this one
    tensorrt_accelerator: bool = False  # ONNX Runtime hands the graph to TensorRT

    def __post_init__(self) -> None:
        self._check_parallel()
        for flag, value in (("--version-folder", self.version_folder), ("--max-batch", self.max_batch)):
            _check_least(flag, value, 1)
        for size in self.preferred_batch:
            _check_least("--preferred-batch", size, 1)
        _check_least("--max-queue-delay-us", self.max_queue_delay_us, 0)
        _check_least("--instances", self.instances, 1)
        if any(gpu < 0 for gpu in self.gpus) or len(set(self.gpus)) < len(self.gpus):
            raise ConfigError(f"--gpus is {_listed(self.gpus)}, expected different numbers from 0 on, for example 0,1")
        if not _POLICY.fullmatch(self.version_policy):
            raise ConfigError(
                f"--version-policy is '{self.version_policy}', expected all, latest:N or specific:N,M with versions "
                "from 1 on"
            )
        for flag, given in (("--gpus", self.gpus), ("--tensorrt-accelerator", self.tensorrt_accelerator)):
            if self.cpu and given:
                raise ConfigError(f"{flag} is for GPUs and --cpu says none: leave one of them out")

    def _check_parallel(self) -> None:
        if self.parallel == PIPELINE:
            raise ConfigError(
                "--parallel is 'pipeline', which needs an engine that runs the parts of one model on several GPUs, and "
                "edgekit has none: for a model that fits on one GPU leave it out and give --gpus; for a larger one see "
                "'Models too big for one GPU' in docs/triton.md"
            )
        if self.parallel not in PARALLEL:
            raise ConfigError(f"--parallel is '{self.parallel}'{did_you_mean(self.parallel, PARALLEL)}")


def _check_least(flag: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ConfigError(f"{flag} is {value}, expected {least} or more")


def _listed(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
