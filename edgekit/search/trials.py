"""One trial: a recipe becomes a bundle with the file that the target would run, and its metric is measured."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.calibration import manifest_inputs
from edgekit.compression import compress
from edgekit.compression.steps import step_table
from edgekit.converting import convert_all, converters_for
from edgekit.errors import ConfigError, ConversionError, DataError, EngineError, ModelError
from edgekit.exporting import export_source
from edgekit.measuring import golden_vectors, measure
from edgekit.packing import pack, provenance
from edgekit.progress import Progress
from edgekit.search.own_process import build_apart
from edgekit.search.project_files import converted, with_recipe
from edgekit.search.recalibration import recalibrate
from edgekit.search.space import Recipe
from edgekit.search.store import key_of
from edgekit.search.subject import Subject

BUNDLE = "trial-0.edgekit"  # of what was not trained in full
UNFIT = (ConfigError, ConversionError, DataError, EngineError, ModelError)  # a recipe that this model does not take


@dataclass(frozen=True)
class Job:
    """A recipe and how much it is trained."""

    recipe: Recipe
    rows: int | None  # of training data that each epoch sees; 0: nothing is trained; None: an ordinary build


@dataclass(frozen=True)
class Outcome:
    """What a trial measured; `error` says why nothing was, and then all else is empty."""

    metric: float | None = None
    float_metric: float | None = None  # of the model as it came, on the same data
    bytes: int = 0  # of the file
    packed_bytes: int = 0  # that it takes inside the bundle
    parameters: int = 0
    seconds: float = 0.0  # that it took
    error: str | None = None


@dataclass(frozen=True)
class Made:
    """An outcome and the files behind it: the bundle, and after an ordinary build what is beside it."""

    outcome: Outcome
    files: Mapping[str, bytes]


def job_key(subject: Subject, job: Job) -> str:
    """What makes two trials one build: the same inputs, settings and edgekit.

    An ordinary build is judged by the budget, and tested on the project's device: both are in its report.
    """
    recipe, project = job.recipe, subject.project
    steps = [step_table(step) for step in recipe.steps]
    judged = [repr(project.budget), project.device] if job.rows is None else []
    return key_of(subject.identity, steps, recipe.precision, dict(recipe.kept), job.rows, judged)


def run_trial(subject: Subject, job: Job, work: Path, progress: Progress) -> Made:
    """Do it. `work` is where an interrupted build finds its checkpoints again. Raises EdgekitError on what is no
    recipe's fault; a recipe that the model does not take is an outcome."""
    began = time.monotonic()
    try:
        made = _build(subject, job, work, progress) if job.rows is None else _proxy(subject, job, progress)
    except UNFIT as problem:
        return Made(Outcome(error=" ".join(str(problem).split())), {})
    return replace(made, outcome=replace(made.outcome, seconds=round(time.monotonic() - began, 2)))


def _build(subject: Subject, job: Job, work: Path, progress: Progress) -> Made:
    project = with_recipe(subject.project, subject.target, job.recipe)
    report, paths = build_apart(project, work, allow_code=subject.allow_code, progress=progress)
    planned = subject.planned(job.recipe.precision)
    variant = next(item for item in report.variants if item.id == planned.id)
    outcome = Outcome(
        metric=variant.metric,
        float_metric=report.model.float_metric,
        bytes=variant.bytes,
        packed_bytes=_packed(paths[0], planned.id),
        parameters=report.model.compressed_parameters,
    )
    return Made(outcome, {path.name: path.read_bytes() for path in paths})


def _proxy(subject: Subject, job: Job, progress: Progress) -> Made:
    """Without the device's tests and the report, on part of the training data, judged by the other part."""
    project, recipe, planned = subject.project, job.recipe, subject.plan(job.recipe.precision)
    (variant,) = planned.variants
    data = None if not job.rows else subject.learning.spread(job.rows)
    model = compress(subject.model, *recipe.steps, data=data, training=project.training, progress=progress)
    if recipe.steps and not job.rows:
        recalibrate(model, subject.calibration)
    inputs = manifest_inputs(model.inputs, subject.calibration)
    golden = golden_vectors(model, subject.validation)
    converters = converters_for(planned, converted(project.convert, planned.formats, recipe.kept))
    with tempfile.TemporaryDirectory(prefix="edgekit-trial-") as folder:
        source = export_source(model, Path(folder))
        files, _ = convert_all(source, planned, converters, subject.calibration, progress)
        (measured,), _ = measure(
            model, files, golden, inputs=inputs, evaluation=subject.validation, metric_name=project.data.metric,
            metric=subject.metric, progress=progress,
        )  # fmt: skip
        bundle = Path(folder, BUNDLE)
        pack(
            bundle, [measured], golden, identity=("trial", "0"), model=model, inputs=inputs, labels=None,
            provenance=provenance(model, {"validation": subject.validation}),
        )  # fmt: skip
        outcome = Outcome(
            metric=measured.metric,
            float_metric=subject.float_metric,
            bytes=measured.variant.member.bytes,
            packed_bytes=_packed(bundle, variant.id),
            parameters=model.parameters,
        )
        return Made(outcome, {BUNDLE: bundle.read_bytes()})


def _packed(path: Path, variant: str) -> int:
    with Bundle.open(path) as bundle:
        return bundle.packed_bytes()[bundle.variant(variant).member.path]
