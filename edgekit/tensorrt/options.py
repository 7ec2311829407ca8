"""A recipe's options, set on TensorRT's builder configuration; one that this TensorRT does not have is refused."""

from __future__ import annotations

from typing import Any  # Any: TensorRT's objects, which have no types

from edgekit.errors import BuildError, did_you_mean
from edgekit.tensorrt.bindings import is_rtx, product
from edgekit.tensorrt.recipe import Recipe

_DLA_VERSIONS = "TensorRT has DLA up to 10.7, and from 11.4.1 on an AGX Orin"
_SHOWN = 5  # layers in a message


def check_options(trt: Any, builder: Any, recipe: Recipe) -> None:
    """Raise BuildError for an option that this TensorRT lacks; it would ignore some of them without a word."""
    if is_rtx(trt):
        _check_rtx(trt, recipe)
    elif recipe.compute_capabilities:
        raise _lacking(trt, "compute_capabilities", "it builds for the GPU that it runs on", "build on the device")
    if recipe.dla_core is not None and recipe.dla_core >= builder.num_DLA_cores:
        found = f"it finds {builder.num_DLA_cores} DLA cores here ({_DLA_VERSIONS})"
        raise _lacking(trt, f"dla_core {recipe.dla_core}", found, "leave dla_core out")


def configure(trt: Any, builder: Any, recipe: Recipe) -> Any:
    """A builder configuration with the recipe's options, except for its profiles, DLA and the timing cache.

    Raises BuildError for a value that this TensorRT does not know.
    """
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if recipe.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_bytes)
    if recipe.optimization_level is not None:
        config.builder_optimization_level = recipe.optimization_level
    if recipe.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if recipe.hardware_compatibility != "none":
        level = recipe.hardware_compatibility.upper().replace("-", "_")
        config.hardware_compatibility_level = _member(trt, trt.HardwareCompatibilityLevel, level)
    if recipe.compute_capabilities:
        _set_capabilities(trt, config, recipe.compute_capabilities)
    return config


def use_dla(trt: Any, network: Any, config: Any, recipe: Recipe) -> list[str]:
    """Put the network on its DLA core; what moved to the GPU, in words.

    Raises BuildError when the core can run no layer, or not every one and `gpu_fallback` is off.
    """
    if recipe.dla_core is None:
        return []
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = recipe.dla_core
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    left = [layer.name for layer in layers if not config.can_run_on_DLA(layer)]
    if not left:
        return []
    shown = ", ".join(left[:_SHOWN]) + (", …" if len(left) > _SHOWN else "")
    told = f"{len(left)} of {len(layers)} layers cannot run on DLA core {recipe.dla_core}: {shown}"
    if len(left) == len(layers):
        raise BuildError(f"{told}; leave dla_core out")
    if not recipe.gpu_fallback:
        raise BuildError(f"{told}; allow gpu_fallback, or leave dla_core out")
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    return [f"{told}; they run on the GPU"]


def _check_rtx(trt: Any, recipe: Recipe) -> None:
    for name, given in (
        ("version_compatible", recipe.version_compatible),
        (f"hardware_compatibility '{recipe.hardware_compatibility}'", recipe.hardware_compatibility != "none"),
        (f"dla_core {recipe.dla_core}", recipe.dla_core is not None),
    ):
        if given:
            raise _lacking(trt, name, "it is an option of TensorRT for Jetsons and data centers", "leave it out")


def _set_capabilities(trt: Any, config: Any, names: tuple[str, ...]) -> None:
    known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if name not in known:  # the nearest name would be another GPU's
            raise BuildError(f"{product(trt)} builds for no GPU of '{name}'; it knows {', '.join(known)}")
        if not config.set_compute_capability(_member(trt, trt.ComputeCapability, name), index):
            raise BuildError(f"{product(trt)} does not take compute capability {name} beside {', '.join(names)}")


def _member(trt: Any, kind: Any, name: str) -> Any:
    if name not in kind.__members__:
        raise BuildError(f"{product(trt)} has no {kind.__name__} '{name}'{did_you_mean(name, kind.__members__)}")
    return kind.__members__[name]


def _lacking(trt: Any, option: str, why: str, remedy: str) -> BuildError:
    return BuildError(f"{product(trt)} has no {option}: {why}; {remedy}")
