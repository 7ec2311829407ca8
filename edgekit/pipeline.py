"""The host flow on one page: load, compress, convert, bundle, deploy, run, test, report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.automatic import Choice, check_auto, choose
from edgekit.budgets import Budget
from edgekit.build_inputs import (
    BuildInputs,
    BuildRequest,
    described_inputs,
    embedded_metadata,
    load_inputs,
    name_and_version,
)
from edgekit.calibration import doubts
from edgekit.compression import Step, TrainingSettings, compress
from edgekit.compression.order import check_order
from edgekit.conversion import INPUTS_OUTPUTS, Converter, Source
from edgekit.converting import Options, convert_all, converters_for
from edgekit.data import DataSource
from edgekit.devices import LOCAL, check_device
from edgekit.engine_recipes import Recipes, check_inputs
from edgekit.evaluation import Metric, evaluate, find_metric
from edgekit.exporting import export_source
from edgekit.files import fresh_folder, publish, workspace
from edgekit.given import GivenModel, given_format
from edgekit.layer_figures import layer_figures
from edgekit.lengths import Lengths
from edgekit.loading import FloatModel, LoadedModel
from edgekit.manifest import Manifest
from edgekit.measuring import MeasuredVariant, compare_pairs, golden_vectors, measure
from edgekit.metadata import MetadataSettings, check_formats, metadata_settings, with_states
from edgekit.packing import pack, packed_bytes, provenance
from edgekit.planning import Plan, Targets, plan
from edgekit.preparation import declared_preprocessing
from edgekit.preprocessing.declared import Preprocessing
from edgekit.progress import LoggedProgress, Progress
from edgekit.project import Project, check_name
from edgekit.report import BuildReport, Findings, ModelFacts, assemble, sample_facts, write_report
from edgekit.runtime.golden import GoldenVectors
from edgekit.trials import time_on, try_on

STEPS = "steps"  # the checkpoints, in the work folder


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
    device: str = LOCAL,
    preprocessing: Mapping[str, Preprocessing | Mapping[str, object]] | None = None,
    progress: Progress | None = None,
) -> Build:
    """Make `output` (`NAME-VERSION.edgekit`), with `report.html`, `report.json` and the compressed `.keras` beside it.

    `model` is a path, a live Keras model, or what `compress` returned; or the path of a float `.onnx`, which is only
    converted: without a recipe, for targets that take ONNX. `architecture` builds it when the path holds weights alone,
    and `lengths` fix what inputs leave open, as for `edgekit.load`. `recipe` is applied first, on the `train` data,
    trained as `training` says. `calibration` defaults to `train`. `targets` are profile names, or a dict of names to
    precisions (None: the profile's choice; "auto": the fastest on `device` that keeps the metric within the budget).
    `device` is the URL of the device that times and tests the bundle. `convert` gives a format its settings: a table as
    in `[convert.tflite]`, or `edgekit_tflite.TFLiteOptions`. `labels` are class names. `metadata` is embedded in
    `.tflite` files: a table as in `[metadata]`, or `edgekit.MetadataSettings`; an empty table embeds what is known
    without it. `tensorrt` maps targets to the `edgekit.tensorrt.recipe.Recipe` by which they build engines, instead of
    their profiles'. `preprocessing` says of inputs how they come from pixels or samples: tables as in
    `[preprocessing.NAME]`, or `edgekit.Preprocessing`. With `resume`, an interrupted build of the same inputs goes on
    after its last finished epoch. Nothing appears at `output` unless every stage succeeded; a budget that is not met is
    said in the report and is no exception. Raises EdgekitError.
    """
    return run(
        BuildRequest(
            model, targets, evaluation, Path(output), calibration, calibration_samples, train, recipe,
            training or TrainingSettings(), convert or {}, labels, metadata_settings(metadata), metric,
            budget or Budget(), resume, allow_code, architecture, lengths, tensorrt or {}, device,
            declared_preprocessing(preprocessing),
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
    device: str | None = None,
    progress: Progress | None = None,
) -> Build:
    """Build a project file into `folder`; `architecture` and `device` go before the file's."""
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
        device=device or project.device,
        preprocessing=project.preprocessing,
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
    check_device(request.device)
    with tempfile.TemporaryDirectory(prefix="edgekit-build-") as folder:  # where a given file is put in order
        return _run(request, planned, converters, metric, load_inputs(request, converters, Path(folder)))


def _run(
    request: BuildRequest, planned: Plan, converters: Mapping[str, Converter], metric: Metric, inputs: BuildInputs
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
        trial = try_on(request.device, candidate, request.progress)
        given = (model.note,) if isinstance(model, GivenModel) else ()
        notes = (*given, *choice.notes, *doubts(inputs.calibration, inputs.evaluation))
        found = Findings(
            manifest, choice.variants, packed_bytes(candidate), trial, facts, choice.preferred, notes,
            compare_pairs(golden, choice.variants), layer_figures(choice.variants, golden, model, request.progress),
            sample_facts(inputs.evaluation, choice.variants, request.labels),
        )  # fmt: skip
        report = assemble(found, request.budget)
        return publish_build(request.output, candidate, model, report, manifest)


def _compress(request: BuildRequest, inputs: BuildInputs, work: Path) -> LoadedModel | GivenModel:
    if isinstance(inputs.model, GivenModel):
        return inputs.model
    return compress(
        inputs.model, *request.recipe, data=inputs.train, training=request.training, checkpoints=work / STEPS,
        progress=request.progress,
    )  # fmt: skip


def _convert(
    request: BuildRequest,
    inputs: BuildInputs,
    planned: Plan,
    converters: Mapping[str, Converter],
    metric: Metric,
    model: LoadedModel | GivenModel,
    golden: GoldenVectors,
    work: Path,
) -> tuple[list[MeasuredVariant], dict[str, str]]:
    """Every variant, measured with the engine that will run it; and why candidates are not among them."""
    folder = fresh_folder(work / "convert")
    source = _source(request, inputs, converters, model, folder)
    converted, refused = convert_all(source, planned, converters, inputs.single_calls, request.progress)
    measured, failed = measure(
        model, converted, golden,
        inputs=described_inputs(request, model, inputs.calibration), evaluation=inputs.evaluation,
        metric_name=request.metric, metric=metric, progress=request.progress,
    )  # fmt: skip
    return measured, {**refused, **failed}


def _source(
    request: BuildRequest,
    inputs: BuildInputs,
    converters: Mapping[str, Converter],
    model: LoadedModel | GivenModel,
    folder: Path,
) -> Source:
    if isinstance(model, GivenModel):
        source = replace(model.source, work=folder)
    else:
        read = {name for converter in converters.values() for name in converter.signatures}
        source = export_source(model, folder, state=INPUTS_OUTPUTS if model.stateful else None, signatures=read)
    metadata = embedded_metadata(request, model, inputs.calibration)
    if metadata is not None:
        metadata = with_states(metadata, [(port.taken.name, port.given.name) for port in source.states])
    return replace(source, metadata=metadata)


def _choose(
    request: BuildRequest,
    inputs: BuildInputs,
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
    medians_ms = time_on(request.device, candidates, request.progress)
    return choose(planned, variants, medians_ms, refused, facts, request.budget, device=request.device)


def _bundle(
    request: BuildRequest,
    inputs: BuildInputs,
    model: FloatModel,
    variants: Sequence[MeasuredVariant],
    golden: GoldenVectors,
    candidate: Path,
) -> Manifest:
    return pack(
        candidate, variants, golden,
        identity=name_and_version(request.output), model=model, labels=request.labels,
        inputs=described_inputs(request, model, inputs.calibration),
        provenance=provenance(model, inputs.by_role),
    )  # fmt: skip


def _model_facts(request: BuildRequest, inputs: BuildInputs, model: FloatModel, metric: Metric) -> ModelFacts:
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


def publish_build(
    output: Path, candidate: Path, model: LoadedModel | GivenModel, report: BuildReport, manifest: Manifest
) -> Build:
    """Everything at its final name, the bundle last: where the bundle is, the rest is too. Raises OutputError."""
    if isinstance(model, GivenModel):
        model_file = model.path
    else:
        model_file = output.with_suffix(".keras")
        model.save(model_file)
    files = write_report(report, output.parent)
    publish(candidate, output)
    return Build(output, model_file, files.html, files.json, report, manifest)
