"""TensorRT: an engine that this device built from the variant's ONNX and recipe, once, and keeps in its cache; or one
from a bundle (a plan), whose signer the session trusts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast  # Any: TensorRT's module, which has no types

from edgekit.errors import BuildError, EngineError
from edgekit.manifest import Binding
from edgekit.runtime.cuda import CudaApi, open_cuda
from edgekit.runtime.engines import LEAST_TENSORRT, TENSORRT, TENSORRT_RTX, EngineStatus, installed_version
from edgekit.tensorrt.bindings import PROPER, RTX, find_package, load, product
from edgekit.tensorrt.recipe import Recipe
from edgekit.versions import version_key

if TYPE_CHECKING:  # to look for TensorRT, where there is none most of the time, must cost little
    from edgekit.runtime.tensorrt_runner import LoadedEngine, TensorRTRunner
    from edgekit.tensorrt.cache import Builder, CachedEngine, Machine

_GET = "on a Jetson it comes with JetPack 6 and newer; for RTX GPUs pip install tensorrt-rtx"
_DISTRIBUTIONS = {
    PROPER: ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    RTX: ("tensorrt-rtx", "tensorrt_rtx_cu13"),
}
_RELEASE = Path("/etc/nv_tegra_release")
_L4T = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")


def find() -> EngineStatus:
    """Whether TensorRT is installed, and whether CUDA shows a GPU for it; TensorRT itself is not imported."""
    return find_of(TENSORRT, tuple(_DISTRIBUTIONS))


def find_of(engine: str, packages: Sequence[str]) -> EngineStatus:
    """The first of these packages that is installed, as the engine of that name."""
    for package in packages:
        found = installed_version(package, _DISTRIBUTIONS[package])
        if found is not None:
            return EngineStatus(engine, *found, _GET, package == PROPER or engine == TENSORRT_RTX, _no_gpu())
    return EngineStatus(engine, None, None, _GET, least_version_applies=True)


def open_model(
    content: bytes,
    inputs: Sequence[Binding],
    outputs: Sequence[Binding],
    *,
    threads: int,
    recipe: Recipe | None = None,
    accelerator: str | None = None,
) -> TensorRTRunner:
    """Open the engine of an ONNX file, building it first where this device has not. `threads` says nothing to a GPU.

    Raises EngineError when there is no GPU, no TensorRT or no recipe, when the build fails, or when TensorRT refuses
    what it built.
    """
    del threads
    _check_asked(accelerator)
    if recipe is None:
        raise EngineError("TensorRT builds from an ONNX file and a recipe, and this variant carries no recipe")
    return _opened(
        find_package, lambda trt, machine: _loaded(trt, content, recipe, machine, build_engine()), inputs, outputs
    )


def open_plan(
    content: bytes,
    inputs: Sequence[Binding],
    outputs: Sequence[Binding],
    *,
    threads: int,
    recipe: Recipe | None = None,
    accelerator: str | None = None,
    package: str = PROPER,
) -> TensorRTRunner:
    """Open a plan that `package` built on another machine. It holds code: the caller has found it trustworthy.

    `threads` says nothing to a GPU; `recipe` says what it was built by. The host code of a version-compatible plan
    is not run. Raises EngineError when there is no GPU or no such package, when the plan is for other GPUs, or when
    TensorRT refuses it.
    """
    del threads
    _check_asked(accelerator)

    def loaded(trt: Any, machine: Machine) -> LoadedEngine:
        capabilities = recipe.compute_capabilities if recipe else ()
        if capabilities and machine.sm not in capabilities:
            raise EngineError(f"the plan was built for {', '.join(capabilities)}, this GPU is {machine.sm}: build anew")
        from edgekit.runtime.tensorrt_runner import deserialize

        found = deserialize(trt, content, host_code=False)
        if isinstance(found, str):
            raise EngineError(f"{product(trt)} does not take the plan: {found}; build it with this version")
        return found

    return _opened(lambda: package, loaded, inputs, outputs)


def _opened(
    package: Callable[[], str],
    load_engine: Callable[[Any, Machine], LoadedEngine],
    inputs: Sequence[Binding],
    outputs: Sequence[Binding],
) -> TensorRTRunner:
    """A runner of what `load_engine` gives; nothing of CUDA is left behind when that fails."""
    from edgekit.runtime.tensorrt_runner import TensorRTRunner

    with ExitStack() as stack:
        cuda = open_cuda()
        stack.callback(cuda.close)
        cuda.enter()
        try:
            trt = load(package())
            check_version(trt.__version__, package=trt.__name__)
            machine = machine_facts(trt, cuda)
            loaded = load_engine(trt, machine)
        except BuildError as problem:
            raise EngineError(str(problem)) from problem
        runner = TensorRTRunner(cuda, loaded, inputs, outputs, f"{machine.gpu}, {machine.sm}")
        stack.pop_all()
    return runner


def _check_asked(accelerator: str | None) -> None:
    if accelerator not in (None, "cuda"):
        raise EngineError(f"accelerator '{accelerator}' was asked for, TensorRT runs on cuda")


def check_version(version: str, *, package: str) -> None:
    """Raise EngineError on a TensorRT that is older than edgekit supports."""
    if package == PROPER and version_key(version) < version_key(LEAST_TENSORRT):
        raise EngineError(f"TensorRT {version} is older than {LEAST_TENSORRT}: update to JetPack 6 or newer")


def machine_facts(trt: Any, cuda: CudaApi) -> Machine:
    """What an engine that is built here belongs to."""
    from edgekit.tensorrt.cache import Machine

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
    return cast("Builder", import_module("edgekit.tensorrt.building").build_engine)


def _loaded(trt: Any, content: bytes, recipe: Recipe, machine: Machine, build: Builder) -> LoadedEngine:
    """The engine, from the cache or new; one from the cache that TensorRT refuses is built again, once."""
    from edgekit.tensorrt.cache import EngineCache, cache_folder

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
    from edgekit.runtime.tensorrt_runner import deserialize

    return deserialize(trt, cached.plan, host_code=recipe.version_compatible)


def _no_gpu() -> str | None:
    try:
        open_cuda().close()
    except EngineError as problem:
        return str(problem)
    return None
