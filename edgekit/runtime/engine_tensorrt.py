"""TensorRT: an engine that this device built from the variant's ONNX and recipe, once, and keeps in its cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, cast  # Any: TensorRT's module, which has no types

from edgekit.errors import BuildError, EngineError
from edgekit.manifest import Binding
from edgekit.runtime.cuda import CudaApi, open_cuda
from edgekit.runtime.engines import LEAST_TENSORRT, TENSORRT, EngineStatus, installed_version
from edgekit.runtime.tensorrt_runner import LoadedEngine, TensorRTRunner, deserialize
from edgekit.tensorrt.bindings import PROPER, RTX, find_package, load, product
from edgekit.tensorrt.cache import Builder, CachedEngine, EngineCache, Machine, cache_folder
from edgekit.tensorrt.recipe import Recipe
from edgekit.versions import version_key

_GET = "on a Jetson it comes with JetPack 6 and newer; for RTX GPUs pip install tensorrt-rtx"
_DISTRIBUTIONS = {
    PROPER: ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    RTX: ("tensorrt-rtx", "tensorrt_rtx_cu13"),
}
_RELEASE = Path("/etc/nv_tegra_release")
_L4T = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")


def find() -> EngineStatus:
    """Whether TensorRT is installed, and whether CUDA shows a GPU for it; TensorRT itself is not imported."""
    for package, distributions in _DISTRIBUTIONS.items():
        found = installed_version(package, distributions)
        if found is not None:
            return EngineStatus(TENSORRT, *found, _GET, package == PROPER, _no_gpu())
    return EngineStatus(TENSORRT, None, None, _GET, least_version_applies=True)


def open_model(
    content: bytes, inputs: Sequence[Binding], outputs: Sequence[Binding], *, threads: int, recipe: Recipe | None = None
) -> TensorRTRunner:
    """Open the engine of an ONNX file, building it first where this device has not. `threads` says nothing to a GPU.

    Raises EngineError when there is no GPU, no TensorRT or no recipe, when the build fails, or when TensorRT refuses
    what it built.
    """
    del threads
    if recipe is None:
        raise EngineError("TensorRT builds from an ONNX file and a recipe, and this variant carries no recipe")
    with ExitStack() as stack:
        cuda = open_cuda()
        stack.callback(cuda.close)
        cuda.enter()
        try:
            trt = load(find_package())
            check_version(trt.__version__, package=trt.__name__)
            machine = machine_facts(trt, cuda)
            loaded = _loaded(trt, content, recipe, machine, build_engine())
        except BuildError as problem:
            raise EngineError(str(problem)) from problem
        runner = TensorRTRunner(cuda, loaded, inputs, outputs, f"{machine.gpu}, {machine.sm}")
        stack.pop_all()
    return runner


def check_version(version: str, *, package: str) -> None:
    """Raise EngineError on a TensorRT that is older than edgekit supports."""
    if package == PROPER and version_key(version) < version_key(LEAST_TENSORRT):
        raise EngineError(f"TensorRT {version} is older than {LEAST_TENSORRT}: update to JetPack 6 or newer")


def machine_facts(trt: Any, cuda: CudaApi) -> Machine:
    """What an engine that is built here belongs to."""
    major, minor = cuda.compute_capability()
    return Machine(
        package=trt.__name__,
        version=trt.__version__,
        gpu=cuda.device_name(),
        sm=f"SM{major}{minor}",
        cuda_runtime=cuda.runtime_version(),
        driver=cuda.driver_version(),
        l4t=l4t_release(_RELEASE.read_text(encoding="utf-8")) if _RELEASE.exists() else None,
    )


def l4t_release(text: str) -> str:
    """ "36.4.3" of /etc/nv_tegra_release; its whole first line where that has another form."""
    found = _L4T.match(text)
    return f"{found[1]}.{found[2]}" if found else text.partition("\n")[0].strip()


def build_engine() -> Builder:
    """The builder, which runs in a process of its own."""
    return cast(Builder, import_module("edgekit.tensorrt.building").build_engine)


def _loaded(trt: Any, content: bytes, recipe: Recipe, machine: Machine, build: Builder) -> LoadedEngine:
    """The engine, from the cache or new; one from the cache that TensorRT refuses is built again, once."""
    cache = EngineCache(cache_folder())
    cached = cache.get(content, recipe, machine, build)
    loaded = _deserialized(trt, cached, recipe)
    if isinstance(loaded, str) and not cached.built_now:
        cached = cache.get(content, recipe, machine, build, refused=cached.entry.engine_sha256)
        loaded = _deserialized(trt, cached, recipe)
    if isinstance(loaded, str):
        raise EngineError(f"{product(trt)} refuses the engine that it built: {loaded}")
    return loaded


def _deserialized(trt: Any, cached: CachedEngine, recipe: Recipe) -> LoadedEngine | str:
    return deserialize(trt, cached.plan, host_code=recipe.version_compatible)


def _no_gpu() -> str | None:
    try:
        open_cuda().close()
    except EngineError as problem:
        return str(problem)
    return None
