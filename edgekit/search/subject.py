"""What a search is about: a project, its model, and data split so that what is chosen by was not trained on."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any  # Any: numpy's savez takes arrays and a truth by one name

import numpy as np

from edgekit import __version__
from edgekit.calibration import representative
from edgekit.compression.task import takes_class_numbers
from edgekit.data import LABELS_KEY, Data, load_data
from edgekit.engine_recipes import Recipes
from edgekit.errors import ConfigError, DataError
from edgekit.evaluation import Metric, evaluate, find_metric
from edgekit.exporting import check_float, check_names
from edgekit.given import given_format
from edgekit.loading import LoadedModel, load, need_classes
from edgekit.planning import Plan, PlannedVariant, plan
from edgekit.profiles import AUTO, load_target
from edgekit.project import Project
from edgekit.search.store import key_of
from edgekit.states import NOT_SEARCHED, check_stateless

VALIDATION_ROWS = 1000  # at most; a fifth of less data
VALIDATION_FRACTION = 0.2
SHORT_ROWS = 4096  # at most, that short trainings see


@dataclass(frozen=True)
class Subject:
    """A project that is searched for, loaded and checked."""

    project: Project
    model: LoadedModel
    target: str
    format: str  # of the file that the target runs first
    precisions: tuple[str, ...]  # that the search may choose from
    train: Data  # all of it; finalists are trained on it, as `edgekit build` does
    learning: Data  # the part of it that short trainings see
    validation: Data  # the other part, which chooses who becomes a finalist
    calibration: Data
    evaluation: Data  # what finalists are measured on, and nothing else
    metric: Metric
    float_metric: float  # of the model as it came, on `validation`
    allow_code: bool
    identity: str  # by all that a trial's result depends on, beside its recipe

    def planned(self, precision: str) -> PlannedVariant:
        """The variant that the target would run first at this precision."""
        return _first(self.target, precision, _recipes(self.project, self.target))

    def plan(self, precision: str) -> Plan:
        """A build of that variant alone."""
        variant = self.planned(precision)
        return Plan((variant,), {self.target: variant.id})


def load_subject(project: Project, *, allow_code: bool = False) -> Subject:
    """Load what a search needs. Raises EdgekitError on what cannot be searched for."""
    target = check_project(project)
    sys.path.insert(0, str(project.folder.resolve()))  # module:function may stand beside the project file
    model = load(project.model, architecture=project.architecture, allow_code=allow_code, lengths=project.lengths)
    check_names(model.inputs, model.outputs)
    check_float(model)
    check_stateless(model.model, NOT_SEARCHED)
    metric_name = project.data.metric
    if metric_name == "top1":
        need_classes(model, why="metric top1")
    assert project.data.train is not None  # check_project saw to it
    train = load_data(
        project.locate(project.data.train), model.inputs, where="training data", classes=model.classes,
        any_labels=not takes_class_numbers(model, project.training.loss),
    )  # fmt: skip
    train.need_labels()
    held_back = load_data(
        project.locate(project.data.evaluation), model.inputs, where="evaluation data", classes=model.classes,
        any_labels=metric_name != "top1",
    )  # fmt: skip
    held_back.need_labels()
    calibration = representative(
        project.locate(project.data.calibration or project.data.train), model.inputs,
        samples=project.data.calibration_samples,
    )  # fmt: skip
    learning, validation = split(train)
    metric = find_metric(metric_name)
    format_name, precisions = _choices(project, target)
    data = {"train": train, "evaluation": held_back, "calibration": calibration}
    return Subject(
        project, model, target, format_name, precisions, train, learning, validation, calibration, held_back, metric,
        evaluate(model.predict, validation, metric), allow_code, _identity(project, target, model, data),
    )  # fmt: skip


def _identity(project: Project, target: str, model: LoadedModel, data: Mapping[str, Data]) -> str:
    settings = [project.name, project.version, project.labels, project.data.metric, project.training.identity()]
    others = [
        target, project.convert, repr(project.metadata), repr(project.tensorrt), repr(project.lengths),
        repr(project.preprocessing),
    ]  # fmt: skip
    return key_of(
        __version__, model.sha256(), {role: samples.sha256() for role, samples in data.items()}, settings, others
    )


def device_of(project: Project) -> str:
    """The URL of the device that latency is measured on."""
    return project.search.device or project.device


def check_project(project: Project) -> str:
    """The target that is searched for. Raises ConfigError when the project says too little, or what cannot be."""
    if given_format(project.model) is not None:
        raise ConfigError(
            f"{project.model.name} holds no Keras model, so it cannot be compressed, and there is nothing to search: "
            "bring the Keras model that it was exported from"
        )
    if project.budget.max_metric_drop is None:
        raise ConfigError(
            "a search takes the smallest and fastest that keeps the metric: say how much it may lose, with "
            "max_metric_drop in [budget] (--max-drop)"
        )
    if project.data.train is None:
        raise DataError("a search trains its finalists: give [data] train")
    names = list(project.targets)
    target = project.search.target
    if target is None:
        if len(names) > 1:
            raise ConfigError(f"{len(names)} targets ({', '.join(names)}): say which in [search] target")
        return names[0]
    if target not in names:
        raise ConfigError(f"[search] target is '{target}', which [targets] does not have; it has {', '.join(names)}")
    return target


def split(train: Data) -> tuple[Data, Data]:
    """(to learn from, to choose by): the second spread evenly over the rows."""
    count = min(VALIDATION_ROWS, int(VALIDATION_FRACTION * len(train)))
    if count < 1:
        raise DataError(f"{train.where}: {len(train)} samples are too few to hold some back; give at least 5")
    chosen = train.spread_rows(count)
    rest = np.setdiff1d(np.arange(len(train)), chosen)
    return train.take(rest), train.take(chosen)


def write_columns(file: Path | IO[bytes], data: Data) -> None:
    """Write an `.npz` that is read as these very samples."""
    columns: dict[str, Any] = dict(data.inputs)
    if data.labels is not None:
        columns[LABELS_KEY] = data.labels
    np.savez_compressed(file, **columns)


def _choices(project: Project, target: str) -> tuple[str, tuple[str, ...]]:
    """The format that the target runs first, and its precisions in that format: int8, the fastest as a rule, first."""
    asked = project.targets[target]
    named = (asked,) if isinstance(asked, str) else asked
    wanted = load_target(target).precisions if named is None or named == (AUTO,) else named
    recipes = _recipes(project, target)
    variants = [_first(target, name, recipes) for name in sorted(wanted, key=lambda name: name != "int8")]
    return variants[0].format, tuple(item.precision for item in variants if item.format == variants[0].format)


def _first(target: str, precision: str, recipes: Recipes) -> PlannedVariant:
    """The variant that the target would run first at this precision."""
    found = plan({target: [precision]}, recipes=recipes)
    return next(variant for variant in found.variants if variant.id == found.preferred[target])


def _recipes(project: Project, target: str) -> Recipes:
    return {name: recipe for name, recipe in project.tensorrt.items() if name == target}
