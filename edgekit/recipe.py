"""Steps and training settings as TOML says them: in a project file, or in a recipe of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import tomllib

from edgekit.compression.steps import Distill, Step, parse_step
from edgekit.compression.training import TrainingSettings
from edgekit.errors import ConfigError
from edgekit.strict import parse


@dataclass(frozen=True)
class Recipe:
    """What `edgekit compress` is to do; paths are located."""

    steps: tuple[Step, ...]
    training: TrainingSettings


@dataclass(frozen=True)
class _File:
    """The TOML file as it stands."""

    compress: tuple[Mapping[str, object], ...] = ()
    training: TrainingSettings = field(default_factory=TrainingSettings)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file: `[[compress]]` tables and a `[training]` table. Raises ConfigError that names the key."""
    file = parse(_File, read_toml(path, what="recipe"), where=path.name)
    if not file.compress:
        raise ConfigError(f"{path.name}: no steps; add a table such as [[compress]] with step = 'prune'")
    return Recipe(parse_steps(file.compress, path), located_settings(file.training, path))


def read_toml(path: Path, *, what: str) -> dict[str, object]:
    """A parsed TOML file. Raises ConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(f"cannot read {what} {path}: {problem.strerror}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: not TOML: {problem}") from problem


def parse_steps(tables: Sequence[Mapping[str, object]], path: Path) -> tuple[Step, ...]:
    """The steps of `[[compress]]` tables in the file at `path`. Raises ConfigError."""
    return tuple(
        _located(parse_step(table, where=f"{path.name}: [[compress]] {number}"), path.parent)
        for number, table in enumerate(tables, start=1)
    )


def located_settings(settings: TrainingSettings, path: Path) -> TrainingSettings:
    """The settings of the file at `path`, with its folder before the one for TensorBoard. Raises ConfigError."""
    if not isinstance(settings.loss, str | None):
        raise ConfigError(f"{path.name}: training.loss is {settings.loss!r}, expected a name or module:function")
    board = settings.tensorboard
    return settings if board is None else replace(settings, tensorboard=str(path.parent / board))


def _located(step: Step, folder: Path) -> Step:
    """The step with its student's path made relative to the file."""
    if isinstance(step, Distill) and step.student is not None:
        return replace(step, student=folder / step.student)
    return step
