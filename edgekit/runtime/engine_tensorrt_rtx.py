"""TensorRT-RTX as the engine of prebuilt plans: `tensorrt-rtx` in a manifest. What a device builds is `tensorrt`'s."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.manifest import Binding
from edgekit.runtime.engine_tensorrt import find_of, open_plan
from edgekit.runtime.engines import TENSORRT_RTX, EngineStatus
from edgekit.runtime.tensorrt_runner import TensorRTRunner
from edgekit.tensorrt.bindings import RTX
from edgekit.tensorrt.recipe import Recipe


def find() -> EngineStatus:
    """Whether TensorRT-RTX is installed, and whether CUDA shows a GPU for it."""
    return find_of(TENSORRT_RTX, (RTX,))


def open_model(
    content: bytes,
    inputs: Sequence[Binding],
    outputs: Sequence[Binding],
    *,
    threads: int,
    recipe: Recipe | None = None,
    accelerator: str | None = None,
) -> TensorRTRunner:
    """Open a plan that TensorRT-RTX built elsewhere; see `open_plan`."""
    return open_plan(content, inputs, outputs, threads=threads, recipe=recipe, accelerator=accelerator, package=RTX)
