"""ONNX file and recipe in, engine out: TensorRT's builder in a process of its own, under a deadline."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit import workers
from edgekit.errors import BuildError
from edgekit.files import atomic
from edgekit.tensorrt.bindings import PRODUCTS, find_package, release
from edgekit.tensorrt.recipe import Recipe

_REASONS = 5  # of a refusal, in its message


@dataclass(frozen=True)
class BuildReport:
    """An engine that was built."""

    package: str  # "tensorrt" or "tensorrt_rtx"
    version: str  # of the package, in full: an engine belongs to it
    build_s: float  # of parsing and building
    bytes: int  # of the engine
    notes: tuple[str, ...]  # what a reader must know: layers that moved from a DLA core to the GPU
    warnings: tuple[str, ...]  # of TensorRT
    plan: str  # the table of planned layers, where TensorRT logs one
    log: tuple[str, ...]  # everything that TensorRT said, "SEVERITY: text"

    @property
    def product(self) -> str:
        """ "TensorRT-RTX 1.7.1"."""
        return f"{PRODUCTS[self.package]} {release(self.version)}"


def build_engine(
    model: Path,
    recipe: Recipe,
    output: Path,
    *,
    timeout_s: float,
    progress: Callable[[float], object] | None = None,
    timing_cache: Path | None = None,
) -> BuildReport:
    """Build `model`, a typed ONNX file, and write `output`, whole or not at all.

    TensorRT-RTX builds where the recipe names compute capabilities, else the `tensorrt` that is installed, else
    TensorRT-RTX. `progress` is called with growing fractions. `timing_cache` is a file that TensorRT reads and adds to;
    TensorRT-RTX has none. Raises BuildError when no TensorRT is there, when it lacks an option or refuses the model,
    and when it crashes or takes too long; OutputError when `output` cannot be written.
    """
    _check_file(model)
    package = find_package(ahead_of_time=bool(recipe.compute_capabilities))
    with atomic(output) as temporary:
        reply = workers.call(
            "edgekit.tensorrt.build_worker",
            {
                "model": str(model.resolve()),
                "recipe": dataclasses.asdict(recipe),
                "package": package,
                "output": str(temporary.resolve()),
                "timing_cache": None if timing_cache is None else str(timing_cache.resolve()),
            },
            timeout_s=timeout_s,
            what=f"building {model.name} with {PRODUCTS[package]}",
            error=BuildError,
            progress=progress,
        )
        reasons = tuple(reply["refused"])
        if reasons:
            said = "; ".join(reasons[:_REASONS])
            raise BuildError(f"{PRODUCTS[package]} {release(reply['version'])} refuses {model.name}: {said}", reasons)
    return BuildReport(
        package=package,
        version=reply["version"],
        build_s=reply["build_s"],
        bytes=reply["bytes"],
        notes=tuple(reply["notes"]),
        warnings=tuple(reply["warnings"]),
        plan=reply["plan"],
        log=tuple(reply["log"]),
    )


def _check_file(model: Path) -> None:
    """What the parser would say nothing about, or little."""
    if not model.is_file():
        raise BuildError(f"{model}: no such file")
    if not model.stat().st_size:
        raise BuildError(f"{model}: the file is empty")
