"""The host flow on one page: load, compress, convert, bundle, deploy, run, test, report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.automatic import Choice, check_auto, choose
from edgekit.budgets import Budget
from edgekit.bundle import Bundle
from edgekit.calibration import doubts, manifest_inputs, representative
from edgekit.compression import Step, TrainingSettings, compress
from edgekit.compression.order import check_order, needs_data
from edgekit.compression.task import takes_class_numbers
from edgekit.conversion import Converter
from edgekit.converting import Options, convert_all, converters_for
from edgekit.data import Data, DataSource, load_data
from edgekit.engine_recipes import Recipes, check_inputs
from edgekit.errors import ConfigError, DataError
from edgekit.evaluation import Metric, evaluate, find_metric
from edgekit.exporting import check_float, check_names, export_source
from edgekit.files import fresh_folder, publish, workspace
from edgekit.given import GivenModel, given_format, given_model
from edgekit.lengths import Lengths
from edgekit.loading import FloatModel, LoadedModel, load, need_classes
from edgekit.manifest import Manifest
from edgekit.measuring import MeasuredVariant, compare_pairs, golden_vectors, measure
from edgekit.metadata import MetadataSettings, ModelMetadata, check_formats, describe_model, metadata_settings
from edgekit.packing import pack, provenance
from edgekit.planning import Plan, Targets, plan
from edgekit.progress import LoggedProgress, Progress
from edgekit.project import Project, check_name
from edgekit.report import BuildReport, Findings, ModelFacts, assemble, write_report
from edgekit.runtime.golden import GoldenVectors
from edgekit.states import NOT_IN_A_BUNDLE, check_stateless
from edgekit.trials import time_on, try_on

DEVICE = "local:"
STEPS = "steps"  # the checkpoints, in the work folder


@dataclass(frozen=True)
class BuildRequest:
    """What a build is asked for; `build` documents the fields."""

    model: object
    targets: Targets
    evaluation: DataSource
    output: Path
    calibration: DataSource | None = None
    calibration_samples: int = 200
    train: DataSource | None = None
    recipe: Sequence[Step] = ()
    training: TrainingSettings = field(default_factory=TrainingSettings)
    convert: Options = field(default_factory=dict)
    labels: Sequence[str] | None = None
    metadata: MetadataSettings | None = None
    metric: str = "top1"
    budget: Budget = field(default_factory=Budget)
    resume: bool = False
    allow_code: bool = False
    architecture: str | Callable[[], object] | None = None
    lengths: Lengths | None = None
    tensorrt: Recipes = field(default_factory=dict)
    progress: Progress = field(default_factory=LoggedProgress)


@dataclass(frozen=True)
class Build:
    """What a build made."""

    bundle: Path
    model: Path  # the compressed Keras model, which Keras 3 opens; the .onnx file itself where that was brought
    report_html: Path
    report_json: Path
    report: BuildReport
    manifest: Manifest


def build(
    model: object,
    *,
    targets: Targets,
    evaluation: DataSource,
    output: str | Path,
    calibration: DataSource | None = None,
    calibration_samples: int = 200,
    train: DataSource | None = None,
    recipe: Sequence[Step] = (),
    training: TrainingSettings | None = None,
    convert: Options | None = None,
    labels: Sequence[str] | None = None,
    metadata: MetadataSettings | Mapping[str, object] | None = None,
    metric: str = "top1",
    budget: Budget | None = None,
    resume: bool = False,
    allow_code: bool = False,
    architecture: str | Callable[[], object] | None = None,
    lengths: Lengths | None = None,
    tensorrt: Recipes | None = None,
    progress: Progress | None = None,
) -> Build:
    """Make `output` (`NAME-VERSION.edgekit`), with `report.html`, `report.json` and the compressed `.keras` beside it.

    `model` is a path, a live Keras model, or what `compress` returned; or the path of a float `.onnx`, which is only
    converted: without a recipe, for targets that take ONNX. `architecture` builds it when the path holds
    weights alone, and `lengths` fix what inputs leave open, as for `edgekit.load`. `recipe` is applied first, on the
    `train` data, trained as `training` says. `calibration` defaults to `train`. `targets` are profile names, or a dict
    of names to precisions (None: the profile's choice; "auto": the fastest here that keeps the metric within the
    budget). `convert` gives a format its settings: a table as in `[convert.tflite]`, or
    `edgekit_tflite.TFLiteOptions`. `labels` are class names. `metadata` is embedded in `.tflite` files: a table as in
    `[metadata]`, or `edgekit.MetadataSettings`;
    an empty table embeds what is known without it. `tensorrt` maps targets to the `edgekit.tensorrt.recipe.Recipe` by
    which they build engines, instead of their profiles'. With `resume`, an interrupted build of the same inputs goes on
    after its last finished epoch. Nothing appears at `output` unless every stage succeeded; a budget that is not met
    is said in the report and is no exception. Raises EdgekitError.
    """
    return run(
        BuildRequest(
            model, targets, evaluation, Path(output), calibration, calibration_samples, train, recipe,
            training or TrainingSettings(), convert or {}, labels, metadata_settings(metadata), metric,
            budget or Budget(), resume, allow_code, architecture, lengths, tensorrt or {},
            progress or LoggedProgress(),
        )
    )  # fmt: skip


def build_project(
    project: Project,
    folder: Path,
    *,
    resume: bool = False,
    allow_code: bool = False,
    architecture: str | None = None,
    progress: Progress | None = None,
) -> Build:
    """Build a project file into `folder`; `architecture` goes before the file's."""
    data = project.data
    return build(
        project.model,
        targets=project.targets,
        evaluation=project.locate(data.evaluation),
        output=folder / f"{project.name}-{project.version}.edgekit",
        calibration=project.locate(data.calibration) if data.calibration else None,
        calibration_samples=data.calibration_samples,
        train=project.locate(data.train) if data.train else None,
        recipe=project.recipe,
        training=project.training,
        convert=project.convert,
        labels=project.labels,
        metadata=project.metadata,
        metric=data.metric,
        budget=project.budget,
        resume=resume,
        allow_code=allow_code,
        architecture=architecture or project.architecture,
        lengths=project.lengths,
        tensorrt=project.tensorrt,
        progress=progress,
    )


def run(request: BuildRequest) -> Build:
    """The flow. A mistake that can be seen before the work is reported before the work."""
    check_name(*name_and_version(request.output), where=str(request.output))
    check_order(request.recipe)
    planned = plan(request.targets, given_format(request.model), recipes=request.tensorrt)
    check_auto(planned, request.budget)
    converters = converters_for(planned, request.convert)
    check_formats(request.metadata, planned.formats)
    metric = find_metric(request.metric)
    with tempfile.TemporaryDirectory(prefix="edgekit-build-") as folder:  # where a given file is put in order
        return _run(request, planned, converters, metric, _load(request, converters, Path(folder)))


def _run(
    request: BuildRequest, planned: Plan, converters: Mapping[str, Converter], metric: Metric, inputs: _Inputs
) -> Build:
    for recipe in (variant.tensorrt for variant in planned.variants if variant.tensorrt is not None):
        check_inputs(recipe, inputs.model.inputs)
    with workspace(request.output, resume=request.resume, worth_keeping=STEPS) as work:
        model = _compress(request, inputs, work)
        golden = golden_vectors(model, inputs.evaluation)
        variants, refused = _convert(request, inputs, planned, converters, metric, model, golden, work)
        facts = _model_facts(request, inputs, model, metric)
        choice = _choose(request, inputs, planned, variants, refused, model, golden, facts, work)
        candidate = work / request.output.name
        manifest = _bundle(request, inputs, model, choice.variants, golden, candidate)
        trial = try_on(DEVICE, candidate, request.progress)
        given = (model.note,) if isinstance(model, GivenModel) else ()
        notes = (*given, *choice.notes, *doubts(inputs.calibration, inputs.evaluation))
        found = Findings(
            manifest, choice.variants, _packed_bytes(candidate), trial, facts, choice.preferred, notes,
            compare_pairs(golden, choice.variants),
        )  # fmt: skip
        report = assemble(found, request.budget)
        return _publish(request, candidate, model, report, manifest)


def name_and_version(output: Path) -> tuple[str, str]:
    """`digits-1.0.0.edgekit` -> ("digits", "1.0.0"). Raises ConfigError."""
    name, dash, version = output.name.removesuffix(".edgekit").rpartition("-")
    if output.suffix != ".edgekit" or not dash:
        raise ConfigError(f"output is {output.name}, expected NAME-VERSION.edgekit, for example digits-1.0.0.edgekit")
    return name, version


@dataclass(frozen=True)
class _Inputs:
    """What came in, checked."""

    model: LoadedModel | GivenModel
    evaluation: Data
    calibration: Data
    train: Data | None

    @property
    def by_role(self) -> dict[str, Data]:
        """What there is of the data, by what it was for."""
        roles = {"train": self.train, "calibration": self.calibration, "evaluation": self.evaluation}
        return {role: data for role, data in roles.items() if data is not None}


def _load_model(request: BuildRequest, converters: Mapping[str, Converter], folder: Path) -> LoadedModel | GivenModel:
    found = given_format(request.model)
    if found is not None:
        path = Path(str(request.model))
        for what, given in (("the recipe ([[compress]])", request.recipe), ("architecture", request.architecture)):
            if given:
                raise ConfigError(
                    f"{path.name} holds no Keras model, so it cannot be compressed, only converted: leave {what} out, "
                    "or bring the Keras model that it was exported from"
                )
        return given_model(path, converters[found], folder, lengths=request.lengths)
    model = load(
        request.model, architecture=request.architecture, allow_code=request.allow_code, lengths=request.lengths
    )
    check_names(model.inputs, model.outputs)
    check_float(model)
    check_stateless(model.model, NOT_IN_A_BUNDLE)
    return model


def _load(request: BuildRequest, converters: Mapping[str, Converter], folder: Path) -> _Inputs:
    model = _load_model(request, converters, folder)
    if request.metric == "top1":
        need_classes(model, why="metric top1")
    evaluation = load_data(
        request.evaluation, model.inputs, where="evaluation data", classes=model.classes,
        any_labels=request.metric != "top1",
    )  # fmt: skip
    evaluation.need_labels()
    source = request.calibration if request.calibration is not None else request.train
    if source is None:
        raise DataError("calibration data is missing: give calibration, or train")
    if request.train is None and any(map(needs_data, request.recipe)):
        raise DataError("training data for the recipe is missing: give train")
    if request.labels is not None and len(request.labels) != need_classes(model, why="labels"):
        raise ConfigError(f"{len(request.labels)} labels, expected {model.classes}, one for each class")
    calibration = representative(source, model.inputs, samples=request.calibration_samples)
    _metadata(request, model, calibration)
    train = None
    if request.train is not None and isinstance(model, LoadedModel):
        train = load_data(
            request.train, model.inputs, where="training data", classes=model.classes,
            any_labels=not takes_class_numbers(model, request.training.loss),
        )  # fmt: skip
    return _Inputs(model, evaluation, calibration, train)


def _metadata(request: BuildRequest, model: FloatModel, calibration: Data) -> ModelMetadata | None:
    """What the files will say of themselves. Raises ConfigError on settings that do not fit the model."""
    if request.metadata is None:
        return None
    return describe_model(
        request.metadata,
        identity=name_and_version(request.output),
        inputs=manifest_inputs(model.inputs, calibration),
        outputs=model.outputs,
        labels=None if request.labels is None else tuple(request.labels),
    )


def _compress(request: BuildRequest, inputs: _Inputs, work: Path) -> LoadedModel | GivenModel:
    if isinstance(inputs.model, GivenModel):
        return inputs.model
    return compress(
        inputs.model, *request.recipe, data=inputs.train, training=request.training, checkpoints=work / STEPS,
        progress=request.progress,
    )  # fmt: skip


def _convert(
    request: BuildRequest,
    inputs: _Inputs,
    planned: Plan,
    converters: Mapping[str, Converter],
    metric: Metric,
    model: LoadedModel | GivenModel,
    golden: GoldenVectors,
    work: Path,
) -> tuple[list[MeasuredVariant], dict[str, str]]:
    """Every variant, measured with the engine that will run it; and why candidates are not among them."""
    folder = fresh_folder(work / "convert")
    exported = replace(model.source, work=folder) if isinstance(model, GivenModel) else export_source(model, folder)
    source = replace(exported, metadata=_metadata(request, model, inputs.calibration))
    converted, refused = convert_all(source, planned, converters, inputs.calibration, request.progress)
    measured, failed = measure(
        model, converted, golden,
        inputs=manifest_inputs(model.inputs, inputs.calibration), evaluation=inputs.evaluation,
        metric_name=request.metric, metric=metric, progress=request.progress,
    )  # fmt: skip
    return measured, {**refused, **failed}


def _choose(
    request: BuildRequest,
    inputs: _Inputs,
    planned: Plan,
    variants: Sequence[MeasuredVariant],
    refused: Mapping[str, str],
    model: FloatModel,
    golden: GoldenVectors,
    facts: ModelFacts,
    work: Path,
) -> Choice:
    """What each target runs first; of a target with precision "auto", one variant stays, by its time in a bundle."""
    if not planned.automatic:
        return Choice(tuple(variants), planned.preferred)
    candidates = work / "candidates.edgekit"
    _bundle(request, inputs, model, variants, golden, candidates)
    medians_ms = time_on(DEVICE, candidates, request.progress)
    return choose(planned, variants, medians_ms, refused, facts, request.budget)


def _bundle(
    request: BuildRequest,
    inputs: _Inputs,
    model: FloatModel,
    variants: Sequence[MeasuredVariant],
    golden: GoldenVectors,
    candidate: Path,
) -> Manifest:
    return pack(
        candidate, variants, golden,
        identity=name_and_version(request.output), model=model, labels=request.labels,
        inputs=manifest_inputs(model.inputs, inputs.calibration),
        provenance=provenance(model, inputs.by_role),
    )  # fmt: skip


def _model_facts(request: BuildRequest, inputs: _Inputs, model: FloatModel, metric: Metric) -> ModelFacts:
    origin = model.origin
    brought = origin.model if origin else model
    parameters = origin.parameters if origin else model.parameters
    name, version = name_and_version(request.output)
    return ModelFacts(
        name=name,
        version=version,
        metric_name=request.metric,
        float_metric=None if brought is None else evaluate(brought.predict, inputs.evaluation, metric),
        float_parameters=parameters,
        float_bytes=4 * parameters,
        compressed_metric=evaluate(model.predict, inputs.evaluation, metric),
        compressed_parameters=model.parameters,
        compressed_sparsity=model.sparsity,
        evaluation_samples=len(inputs.evaluation),
    )


def _packed_bytes(bundle: Path) -> dict[str, int]:
    with Bundle.open(bundle) as opened:
        return opened.packed_bytes()


def _publish(
    request: BuildRequest,
    candidate: Path,
    model: LoadedModel | GivenModel,
    report: BuildReport,
    manifest: Manifest,
) -> Build:
    """Everything at its final name, the bundle last: where the bundle is, the rest is too."""
    folder = request.output.parent
    if isinstance(model, GivenModel):
        model_file = model.path
    else:
        model_file = request.output.with_suffix(".keras")
        model.save(model_file)
    html, json_file = write_report(report, folder)
    publish(candidate, request.output)
    return Build(request.output, model_file, html, json_file, report, manifest)
