"""How an engine is built from an ONNX file: what a project may say, what a bundle carries, what a cache key holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgekit.errors import ConfigError

HardwareCompatibility = Literal["none", "ampere-plus", "same-compute-capability"]
_LEVELS = range(6)  # of the builder's optimization


@dataclass(frozen=True)
class Shapes:
    """The sizes of one input that an engine is built for, batch first."""

    min: tuple[int, ...]
    opt: tuple[int, ...]  # what it is fastest at
    max: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ConfigError(f"min {self.min}, opt {self.opt} and max {self.max} differ in rank")
        if not all(0 < low <= middle <= high for low, middle, high in zip(self.min, self.opt, self.max, strict=True)):
            raise ConfigError(f"min {self.min}, opt {self.opt}, max {self.max}: expected 0 < min <= opt <= max")


@dataclass(frozen=True)
class Recipe:
    """What is asked of TensorRT's builder; None leaves TensorRT's own default.

    Precision is no part of it: networks are strongly typed, so it stands in the ONNX graph.
    """

    profiles: tuple[Mapping[str, Shapes], ...] = ()  # by input name; none: open sizes from 1 on, batches up to 8
    workspace_bytes: int | None = None
    optimization_level: int | None = None  # 0 (builds fast) to 5 (runs fast)
    dla_core: int | None = None
    gpu_fallback: bool = True  # of what a DLA core cannot run; reported layer by layer
    timing_cache: bool = True
    hardware_compatibility: HardwareCompatibility = "none"
    version_compatible: bool = False
    compute_capabilities: tuple[str, ...] = ()  # "SM89"; of TensorRT-RTX alone, which builds ahead of time

    def __post_init__(self) -> None:
        if self.optimization_level is not None and self.optimization_level not in _LEVELS:
            raise ConfigError(f"optimization_level is {self.optimization_level}, expected 0 to 5")
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise ConfigError(f"workspace_bytes is {self.workspace_bytes}, expected at least 1")
        if self.dla_core is not None and self.dla_core < 0:
            raise ConfigError(f"dla_core is {self.dla_core}, expected 0 or more")
        if self.dla_core is None and not self.gpu_fallback:
            raise ConfigError("gpu_fallback is off and no dla_core is given: it is for DLA cores alone; leave it out")
