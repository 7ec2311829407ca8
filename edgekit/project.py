"""The user's project file, parsed strictly into a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any  # Any: TOML values

from edgekit.budgets import Budget
from edgekit.calibration import check_samples
from edgekit.compression.steps import Step
from edgekit.compression.training import TrainingSettings
from edgekit.converting import converters_for
from edgekit.devices import LOCAL
from edgekit.engine_recipes import Recipes
from edgekit.errors import ConfigError, EdgekitError
from edgekit.given import given_format
from edgekit.lengths import Lengths
from edgekit.metadata import MetadataSettings, check_formats, located_metadata, read_labels
from edgekit.planning import plan
from edgekit.preprocessing.declared import Preprocessing
from edgekit.recipe import located_settings, parse_steps, read_toml
from edgekit.search_settings import SearchSettings
from edgekit.strict import parse
from edgekit.tensorrt.recipe import Recipe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class DataSection:
    """Where the data is; paths are relative to the project file."""

    evaluation: str
    train: str | None = None  # needed by compression steps
    calibration: str | None = None  # default: train, else an error when an integer precision needs it
    calibration_samples: int = 200
    metric: str = "top1"  # or module:function

    def __post_init__(self) -> None:
        check_samples(self.calibration_samples)


@dataclass(frozen=True)
class TargetSection:
    """What to make for one target; None makes the profile's own choice."""

    precision: tuple[str, ...] | str | None = None  # "auto" tries every one on the device
    tensorrt: Recipe | None = None  # how it builds its engines; None: as its profile says


@dataclass(frozen=True)
class _File:
    """The TOML file as it stands."""

    name: str
    version: str
    model: str
    data: DataSection
    targets: Mapping[str, TargetSection]
    architecture: str | None = None
    lengths: Mapping[str, Any] | None = None
    device: str = LOCAL
    labels: str | None = None
    metadata: MetadataSettings | None = None
    preprocessing: Mapping[str, Preprocessing] = field(default_factory=dict)
    compress: tuple[Mapping[str, object], ...] = ()
    convert: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    budget: Budget = field(default_factory=Budget)
    search: SearchSettings = field(default_factory=SearchSettings)


@dataclass(frozen=True)
class Project:
    """A project file, checked."""

    name: str
    version: str
    model: Path
    labels: tuple[str, ...] | None
    data: DataSection
    recipe: tuple[Step, ...]
    training: TrainingSettings
    targets: Mapping[str, tuple[str, ...] | str | None]
    budget: Budget
    folder: Path
    convert: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # format -> what [convert.FORMAT] says
    metadata: MetadataSettings | None = None
    architecture: str | None = None  # "module:function" that builds the model whose weights alone the file holds
    lengths: Lengths | None = None  # of what inputs leave open, checked against the model when it is loaded
    tensorrt: Recipes = field(default_factory=dict)  # target -> what [targets.NAME.tensorrt] says
    device: str = LOCAL  # the URL of the device that times and tests the bundle
    preprocessing: Mapping[str, Preprocessing] = field(default_factory=dict)  # input -> [preprocessing.NAME]
    search: SearchSettings = field(default_factory=SearchSettings)  # for `edgekit search` alone

    def locate(self, source: str) -> str:
        """A data source with a path made relative to the project file; `module:function` stays."""
        return source if _is_function(source) else str(self.folder / source)


def load_project(path: Path) -> Project:
    """Read a project file. Raises ConfigError that names the key."""
    file = parse(_File, read_toml(path, what="project file"), where=path.name)
    check_name(file.name, file.version, where=path.name)
    if not file.targets:
        raise ConfigError(f"{path.name}: no targets; add a table such as [targets.android-arm64]")
    targets = {name: section.precision for name, section in file.targets.items()}
    recipes = {name: section.tensorrt for name, section in file.targets.items() if section.tensorrt is not None}
    try:
        planned = plan(targets, given_format(file.model), recipes=recipes)
    except EdgekitError as problem:
        raise ConfigError(f"{path.name}: [targets]: {problem}") from problem
    try:
        converters_for(planned, file.convert)
        check_formats(file.metadata, planned.formats)
    except EdgekitError as problem:
        raise ConfigError(f"{path.name}: {problem}") from problem
    return Project(
        name=file.name,
        version=file.version,
        model=path.parent / file.model,
        labels=None if file.labels is None else read_labels(path.parent / file.labels),
        data=file.data,
        recipe=parse_steps(file.compress, path),
        training=located_settings(file.training, path),
        targets=targets,
        tensorrt=recipes,
        budget=file.budget,
        folder=path.parent,
        convert=file.convert,
        metadata=located_metadata(file.metadata, path.parent),
        architecture=_function(file.architecture, path.name),
        lengths=file.lengths,
        device=file.device,
        preprocessing=file.preprocessing,
        search=file.search,
    )


def _function(reference: str | None, where: str) -> str | None:
    if reference is not None and not _is_function(reference):
        raise ConfigError(f"{where}: architecture is '{reference}', expected \"module:function\"")
    return reference


def check_name(name: str, version: str, *, where: str) -> None:
    """Raise ConfigError unless both can be part of a file name."""
    for what, word in (("name", name), ("version", version)):
        if not _NAME.fullmatch(word):
            raise ConfigError(f"{where}: {what} is '{word}'; use letters, digits, '.', '_' and '-'")


def _is_function(source: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", source) is not None
