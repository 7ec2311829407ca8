"""Engines: what one must offer, which there are, and whether one is installed. Nothing is imported before its use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata, util
from typing import Protocol, cast, runtime_checkable

from edgekit.errors import EngineError, did_you_mean
from edgekit.manifest import Binding, Variant
from edgekit.runtime.timing import StageTimes
from edgekit.tensorrt.recipe import Recipe
from edgekit.tensors import Array
from edgekit.versions import version_key


@dataclass(frozen=True)
class EngineStatus:
    """One engine on this machine."""

    name: str  # "litert", as a variant names it
    package: str | None  # the distribution that provides it, None when none is installed
    version: str | None
    missing: str  # how to get it; empty when it is installed
    least_version_applies: bool  # False when a stand-in package with version numbers of its own provides it
    unusable: str | None = None  # why it runs nothing here though it is installed: no GPU


class Runner(Protocol):
    """One opened model. Arrays come and go in the bindings' order, already checked and in the bindings' dtypes."""

    accelerator: str  # what runs it, as far as it can be known: "cpu (XNNPACK)"
    shapes: tuple[tuple[int | None, ...], ...]  # of the inputs; None where the engine takes any size

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run once; the outputs are the caller's own."""
        ...

    def close(self) -> None:
        """Free the model."""


@runtime_checkable
class GpuRunner(Protocol):
    """A runner on a GPU: it also takes arrays that are there already (DeviceArray), and times its stages."""

    def timed_run(self, arrays: Sequence[Array]) -> StageTimes:
        """Run once and drop the outputs."""
        ...


class Engine(Protocol):
    """An engine's module."""

    def find(self) -> EngineStatus:
        """Look for the engine without importing it."""
        ...

    def open_model(
        self,
        content: bytes,
        inputs: Sequence[Binding],
        outputs: Sequence[Binding],
        *,
        threads: int,
        recipe: Recipe | None = None,
    ) -> Runner:
        """Open verified bytes. Raises EngineError when the engine refuses them or cannot be imported.

        `recipe` says how TensorRT builds from them; the other engines run files as they are.
        """
        ...


TENSORRT = "tensorrt"
_MODULES: Mapping[str, str] = {  # in order of preference; TensorRT runs variants that carry a recipe for it
    TENSORRT: "edgekit.runtime.engine_tensorrt",
    "litert": "edgekit.runtime.engine_litert",
    "onnxruntime": "edgekit.runtime.engine_onnx",
}
ENGINES = tuple(_MODULES)
LEAST_TENSORRT = "10.3"
PLAN_REFUSED = (
    "it is a TensorRT engine, which holds code and runs on a machine like that which built it alone; this edgekit runs "
    "the engines that a device builds itself, and no others: pack ONNX"
)


def load_engine(name: str) -> Engine:
    """An engine by the name that variants use. Raises EngineError with a suggestion."""
    if name not in _MODULES:
        raise EngineError(f"no engine '{name}'{did_you_mean(name, ENGINES)}")
    return cast(Engine, import_module(_MODULES[name]))


def find_engines() -> dict[str, EngineStatus]:
    """The status of every engine that this edgekit knows, by name."""
    return {name: load_engine(name).find() for name in ENGINES}


def engines_of(variant: Variant) -> tuple[str, ...]:
    """The engines that can run a variant, the best first: TensorRT before its own where it carries a recipe."""
    return (variant.engine,) if variant.tensorrt is None else (TENSORRT, variant.engine)


def why_not(variant: Variant, engines: Mapping[str, EngineStatus], engine: str | None = None) -> str | None:
    """Why a variant cannot run on `engine` (default: its own) where `engines` are installed, or None when it can."""
    name = engine or variant.engine
    if variant.format == "tensorrt":
        return PLAN_REFUSED
    if name not in engines:
        return f"this edgekit has no engine '{name}'"
    status = engines[name]
    if status.version is None:
        return f"engine '{name}' is not installed: {status.missing}"
    least = variant.engine_least_version if name == variant.engine else LEAST_TENSORRT
    if status.least_version_applies and version_key(status.version) < version_key(least):
        return f"{status.package} {status.version} is older than {least}: {status.missing}"
    return status.unusable


def check_tensors(bindings: Sequence[Binding], dtypes: Mapping[str, str], side: str) -> None:
    """Raise EngineError unless the file's tensors (name -> dtype) are those that the bindings name."""
    for binding in bindings:
        if binding.tensor not in dtypes:
            raise EngineError(
                f"the model has no {side} tensor '{binding.tensor}' for '{binding.name}' (it has: {', '.join(dtypes)})"
            )
        if dtypes[binding.tensor] != binding.dtype:
            raise EngineError(
                f"{side} tensor '{binding.tensor}' is {dtypes[binding.tensor]}, the manifest says {binding.dtype}"
            )
    if len(dtypes) != len(bindings):
        raise EngineError(f"the model has {len(dtypes)} {side}s ({', '.join(dtypes)}), the manifest {len(bindings)}")


def installed_version(module: str, distributions: Sequence[str]) -> tuple[str, str] | None:
    """(distribution, version) of an importable top-level module, or None; the module itself is not imported."""
    if util.find_spec(module) is None:
        return None
    for distribution in distributions:
        try:
            return distribution, metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return module, "0 (no package metadata)"
