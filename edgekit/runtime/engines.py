"""Engines: what one must offer, which there are, and whether one is installed. Nothing is imported before its use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from edgekit.errors import EngineError, did_you_mean
from edgekit.manifest import Binding, Variant
from edgekit.tensorrt.recipe import Recipe
from edgekit.tensors import Array
from edgekit.versions import version_key

if TYPE_CHECKING:
    from edgekit.runtime.stages import StageTimes


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
    notes: tuple[str, ...]  # what of it runs elsewhere, and what was there and did not take
    shapes: tuple[tuple[int | None, ...], ...]  # of the inputs; None where the engine takes any size

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run once; the outputs are the caller's own."""
        ...

    def close(self) -> None:
        """Free the model."""


@runtime_checkable
class FillingRunner(Protocol):
    """A runner that writes outputs where it is told, without one more copy."""

    def run_into(self, arrays: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Run once into contiguous, writable arrays of the engine's dtypes and shapes. Raises EngineError."""
        ...


@runtime_checkable
class GpuRunner(Protocol):
    """A runner on a GPU: it also takes arrays that are there already (DeviceArray), and times its stages."""

    def timed_run(self, arrays: Sequence[Array]) -> StageTimes:
        """Run once and drop the outputs."""
        ...

    def layer_times(self, arrays: Sequence[Array], *, runs: int) -> list[list[tuple[str, float]]]:
        """Each layer's name and milliseconds, for each run."""
        ...


@runtime_checkable
class FarRunner(Protocol):
    """A runner on another machine, where the way there costs more than a run."""

    def run_each(self, runs: Iterable[Sequence[Array]]) -> list[list[Array]]:
        """Run several times in one go. The arrays of a run may change when the next one is asked for."""
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
        accelerator: str | None = None,
    ) -> Runner:
        """Open verified bytes. Raises EngineError when the engine refuses them or cannot be imported.

        `recipe` says how TensorRT builds from them; the other engines run files as they are. `accelerator` is one that
        must run the model, or at least a part of it ("cpu", "cuda", "xnnpack", the path of a LiteRT delegate); None
        takes the fastest that is there. EngineError where it is not there, or did not take.
        """
        ...


_DIST_INFO = ".dist-info"
TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt-rtx"
PLAN = "tensorrt"  # the format of variants that are engines themselves
_MODULES: Mapping[str, str] = {  # in order of preference; TensorRT runs variants that carry a recipe for it
    TENSORRT: "edgekit.runtime.engine_tensorrt",
    TENSORRT_RTX: "edgekit.runtime.engine_tensorrt_rtx",  # runs plans alone
    "litert": "edgekit.runtime.engine_litert",
    "onnxruntime": "edgekit.runtime.engine_onnx",
}
ENGINES = tuple(_MODULES)
LEAST_TENSORRT = "10.3"
PLAN_REFUSED = (
    "it is a TensorRT engine, which holds code, and no key that is trusted here signed the bundle: sign it (edgekit "
    "sign) with a key of this device's trust folder, or pack ONNX, from which the device builds its own"
)


def load_engine(name: str) -> Engine:
    """An engine by the name that variants use. Raises EngineError with a suggestion."""
    if name not in _MODULES:
        raise EngineError(f"no engine '{name}'{did_you_mean(name, ENGINES)}")
    return cast(Engine, import_module(_MODULES[name]))


def find_engines(names: Collection[str] = ENGINES) -> dict[str, EngineStatus]:
    """The status of every engine that this edgekit knows, by name; with `names`, of these alone."""
    return {name: load_engine(name).find() for name in ENGINES if name in names}


class Shelf(Protocol):
    """Where engines come from: this machine, or a device that runs them for us."""

    def find(self, names: Collection[str]) -> Mapping[str, EngineStatus]:
        """The status of these engines, by name."""
        ...

    def load(self, name: str) -> Engine:
        """An engine that `find` says is there. Raises EngineError."""
        ...


class _Here:
    """The engines of this machine."""

    def find(self, names: Collection[str]) -> Mapping[str, EngineStatus]:
        return find_engines(names)

    def load(self, name: str) -> Engine:
        return load_engine(name)


HERE: Shelf = _Here()


def engines_of(variant: Variant) -> tuple[str, ...]:
    """The engines that can run a variant, the best first: TensorRT before its own where it carries a recipe."""
    if variant.tensorrt is None or variant.format == PLAN:
        return (variant.engine,)
    return (TENSORRT, variant.engine)


def why_not(
    variant: Variant,
    engines: Mapping[str, EngineStatus],
    engine: str | None = None,
    *,
    plan_refused: str | None = PLAN_REFUSED,
) -> str | None:
    """Why a variant cannot run on `engine` (default: its own) where `engines` are installed, or None when it can.

    `plan_refused` is None where a key which counts here signed the bundle: else no engine is loaded that holds code.
    """
    name = engine or variant.engine
    if variant.format == PLAN and plan_refused is not None:
        return plan_refused
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
    spec = util.find_spec(module)
    if spec is None:
        return None
    for distribution in distributions:
        version = _version_beside(spec.origin, distribution) or _version(distribution)
        if version is not None:
            return distribution, version
    return module, "0 (no package metadata)"


def _version_beside(origin: str | None, distribution: str) -> str | None:
    """From the name of the folder that an installer leaves beside a package, NAME-VERSION.dist-info.

    importlib.metadata, which tells it everywhere, takes longer to import than a small model to open.
    """
    if origin is None:
        return None
    name = f"{distribution.replace('-', '_')}-"
    beside = (entry.name for entry in Path(origin).parent.parent.iterdir())  # a glob takes many times as long
    found = [entry for entry in beside if entry.startswith(name) and entry.endswith(_DIST_INFO)]
    return found[0][len(name) : -len(_DIST_INFO)] if len(found) == 1 else None


def _version(distribution: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
