"""What TensorRT proper looks like to the builder: it writes down each call, and builds b"engine".

EDGEKIT_FAKE_TENSORRT names a JSON file of settings; `calls` beside it is what happened. It knows only names that
TensorRT 10.3 has, so another use is an AttributeError.
"""

from __future__ import annotations

import enum
import json
import os
from pathlib import Path
from typing import Any

__version__ = "10.3.0.30"

SETTINGS: dict[str, Any] = json.loads(Path(os.environ["EDGEKIT_FAKE_TENSORRT"]).read_text())
_CALLS = Path(os.environ["EDGEKIT_FAKE_TENSORRT"]).with_name("calls")


def note(*words: object) -> None:
    with _CALLS.open("a") as stream:
        stream.write(" ".join(map(str, words)) + "\n")


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class _Named(enum.Enum):
    def __str__(self) -> str:
        return self.name


class BuilderFlag(_Named):
    VERSION_COMPATIBLE = 1
    DISABLE_TIMING_CACHE = 2
    GPU_FALLBACK = 3


class HardwareCompatibilityLevel(_Named):
    NONE = 0
    AMPERE_PLUS = 1


class MemoryPoolType(_Named):
    WORKSPACE = 0


class ProfilingVerbosity(_Named):
    DETAILED = 2


class DeviceType(_Named):
    GPU = 0
    DLA = 1


class Severity(_Named):
    ERROR = 1


class ILogger:
    def log(self, severity: Severity, message: str) -> None: ...


class IProgressMonitor: ...


class _Tensor:
    name, shape, is_shape_tensor = "x", (-1, 3, 8, 8), False


class _Layer:
    def __init__(self, name: str) -> None:
        self.name = name


class _Network:
    num_inputs = num_outputs = 1
    num_layers = 2

    def get_input(self, index: int) -> _Tensor:
        return _Tensor()

    def get_layer(self, index: int) -> _Layer:
        return _Layer(f"layer{index}")


class OnnxParser:
    num_errors = 0

    def __init__(self, network: _Network, logger: ILogger) -> None: ...

    def parse_from_file(self, path: str) -> bool:
        note("parse", Path(path).name)
        return True


class _Profile:
    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        note("shape", name, *shapes)


class _Cache:
    def serialize(self) -> bytes:
        return b"timings"


class _Config:
    def __setattr__(self, name: str, value: object) -> None:
        note("set", name, "a monitor" if isinstance(value, IProgressMonitor) else value)
        super().__setattr__(name, value)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        note("pool", pool, size)

    def set_flag(self, flag: BuilderFlag) -> None:
        note("flag", flag)

    def add_optimization_profile(self, profile: _Profile) -> int:
        return int(SETTINGS.get("profile", 0))

    def can_run_on_DLA(self, layer: _Layer) -> bool:  # noqa: N802
        return layer.name in SETTINGS.get("on_dla", [])

    def create_timing_cache(self, stored: bytes) -> _Cache | None:
        note("timing cache", stored)
        return None if stored == b"damaged" else _Cache()

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> bool:
        return True

    def get_timing_cache(self) -> _Cache:
        return _Cache()


class Builder:
    num_DLA_cores = SETTINGS.get("dla_cores", 0)  # noqa: N815

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger
        if SETTINGS.get("no_gpu"):
            logger.log(Severity.ERROR, "CUDA initialization failure")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags: int) -> _Network:
        note("network", flags)
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        if SETTINGS.get("crash"):
            os.abort()
        if "error" in SETTINGS:
            self._logger.log(Severity.ERROR, SETTINGS["error"])
            return None
        return None if SETTINGS.get("none") else b"engine"
