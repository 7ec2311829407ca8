"""`[convert.tensorrt]`: what a project and the command line may say of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.errors import ConfigError
from edgekit.strict import parse
from edgekit.tensorrt.recipe import Recipe


@dataclass(frozen=True)
class TensorRTOptions:
    """A recipe, and what concerns the machine that builds."""

    recipe: Recipe = field(default_factory=Recipe)
    timing_cache_file: str | None = None  # that TensorRT reads and adds to; TensorRT-RTX has none
    timeout_s: float = 3600.0  # for one engine

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise ConfigError(f"timeout_s is {self.timeout_s}, expected more than 0")


@dataclass(frozen=True)
class _Machine:
    timing_cache_file: str | None = None
    timeout_s: float = TensorRTOptions.timeout_s


def parse_options(options: object, *, where: str) -> TensorRTOptions:
    """The keys of a recipe beside our own, in one table. Raises ConfigError on an unknown key or a wrong value."""
    if isinstance(options, TensorRTOptions):
        return options
    if not isinstance(options, Mapping):
        raise ConfigError(f"{where} is {options!r}, expected a table")
    own = {key: value for key, value in options.items() if key in _Machine.__dataclass_fields__}
    machine = parse(_Machine, own, where=where)
    recipe = parse(Recipe, {key: value for key, value in options.items() if key not in own}, where=where)
    try:
        return TensorRTOptions(recipe, machine.timing_cache_file, machine.timeout_s)
    except ConfigError as problem:
        raise ConfigError(f"{where}: {problem}") from problem
