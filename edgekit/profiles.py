"""Device profiles: what a target takes. One strict TOML file each, found by the entry-point group `edgekit.targets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable

import tomllib

from edgekit.errors import ConfigError, did_you_mean
from edgekit.manifest import FORMATS, PRECISIONS
from edgekit.strict import parse
from edgekit.tensorrt.recipe import Recipe

TARGETS = "edgekit.targets"


@dataclass(frozen=True)
class Delegate:
    """What an accelerator beside the CPU takes; the CPU computes the rest of a model."""

    source: str  # where these facts stand
    operators: tuple[str, ...]  # operator types of the format
    precisions: tuple[str, ...]  # variants that it takes at all

    def __post_init__(self) -> None:
        _known("precision", self.precisions, PRECISIONS)


@dataclass(frozen=True)
class DeviceProfile:
    """What one kind of device runs."""

    name: str
    description: str
    formats: tuple[str, ...]  # each variant of a build is made in every one of them
    precisions: tuple[str, ...]  # that it takes
    default_precisions: tuple[str, ...]  # made when the project does not say
    sources: tuple[str, ...]  # where these facts stand
    checkers: tuple[str, ...] = ()  # vendor tools that an artifact must pass before it is packed
    delegates: Mapping[str, Delegate] = field(default_factory=dict)
    tensorrt: Recipe | None = None  # of a device that builds its engines from ONNX: how
    compute_capabilities: tuple[str, ...] = ()  # of its NVIDIA GPU, as TensorRT-RTX calls them: "SM89"
    max_bytes: int | None = None  # of a model file
    runtime_version: str | None = None  # of TensorFlow, that its TFLite runtime comes from; None: as new as LiteRT's
    select_tf: bool = False  # whether its TFLite runtime has TensorFlow's own operators ("Flex")

    def __post_init__(self) -> None:
        _known("format", self.formats, FORMATS)
        _known("precision", (*self.precisions, *self.default_precisions), PRECISIONS)

    def check_precision(self, precision: str) -> None:
        """Raise ConfigError unless this target takes `precision`."""
        if precision not in PRECISIONS:
            hint = did_you_mean(precision, (*PRECISIONS, AUTO))
            raise ConfigError(f"target '{self.name}': unknown precision '{precision}'{hint}")
        if precision not in self.precisions:
            raise ConfigError(
                f"target '{self.name}' does not take precision '{precision}'; it takes {', '.join(self.precisions)}"
            )


AUTO = "auto"  # instead of precisions: every one that a target takes is tried on the device, and one stays


def target_names() -> tuple[str, ...]:
    """The names of the profiles that are installed, sorted."""
    return tuple(sorted(_profile_files()))


def load_target(name: str) -> DeviceProfile:
    """Read one profile. Raises ConfigError on an unknown name or a profile with a mistake."""
    known = _profile_files()
    if name not in known:
        raise ConfigError(f"unknown target '{name}'{did_you_mean(name, known)}")
    return parse_profile(known[name].read_text(encoding="utf-8"), where=known[name].name)


def parse_profile(text: str, *, where: str) -> DeviceProfile:
    """Parse one profile's TOML. Raises ConfigError that names the key."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"{where}: not TOML: {problem}") from problem
    return parse(DeviceProfile, table, where=where)


def _profile_files() -> dict[str, Traversable]:
    return {file.name.removesuffix(".toml"): file for file in _toml_files()}


def _toml_files() -> Iterator[Traversable]:
    for point in entry_points(group=TARGETS):
        yield from (file for file in files(point.value).iterdir() if file.name.endswith(".toml"))


def _known(what: str, words: tuple[str, ...], known: tuple[str, ...]) -> None:
    for word in words:
        if word not in known:
            raise ConfigError(f"unknown {what} '{word}'{did_you_mean(word, known)}")
