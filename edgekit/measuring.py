"""Accuracy of every converted file, measured with the engine that will run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

from edgekit.comparison import Parity, compare_outputs, top1_classes
from edgekit.conversion import Artifact
from edgekit.converting import Converted
from edgekit.data import Data
from edgekit.engine_recipes import for_file
from edgekit.errors import EngineError
from edgekit.evaluation import Metric, checked_metric
from edgekit.files import sha256_file
from edgekit.loading import FloatModel
from edgekit.manifest import Input, Member, Variant
from edgekit.planning import PlannedVariant
from edgekit.progress import Progress
from edgekit.runtime import open_file
from edgekit.runtime.engines import find_engines, why_not
from edgekit.runtime.golden import GoldenVectors, check_golden
from edgekit.runtime.sequences import run_samples
from edgekit.sequences import at_the_end, in_rows
from edgekit.tensors import Array

GOLDEN_SAMPLES = 8
KERAS = "keras"  # the compressed model, among the variants' ids
# Largest |difference| from the float model that a precision may show, as a fraction of the largest golden output. An
# integer variant gets what it showed on the build machine and a quarter more, where that is larger.
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
INTEGER_TOLERANCE = 0.05
INTEGER_HEADROOM = 1.25
MEASURED_INSTEAD = "its engine cannot run here: measured as the ONNX file that it was built from, in ONNX Runtime"


@dataclass(frozen=True)
class Top1:
    """The class that each evaluation sample gets, of a model whose only output holds scores of classes."""

    reference: Array  # int64, (n,): of the float model that the variant was made from
    found: Array  # int64, (n,): of the variant


@dataclass(frozen=True)
class MeasuredVariant:
    """One converted file, its manifest entry, and how near it is to the float model that it was made from."""

    variant: Variant
    artifact: Artifact
    metric: float
    parity: Parity
    golden_outputs: Mapping[str, Array] = field(default_factory=dict)  # by Keras name
    top1: Top1 | None = None  # None unless the only output holds scores of classes


@dataclass(frozen=True)
class Pair:
    """Two runs of the model on the golden inputs, against each other."""

    reference: str  # a variant's id, or KERAS
    other: str
    parity: Parity


def measure(
    compressed: FloatModel,
    converted: Sequence[Converted],
    golden: GoldenVectors,
    *,
    inputs: tuple[Input, ...],
    evaluation: Data,
    metric_name: str,
    metric: Metric,
    progress: Progress,
) -> tuple[list[MeasuredVariant], dict[str, str]]:
    """Run every file over the evaluation data.

    Returns what was measured, and for each candidate that does not run the reason. Raises EngineError when another
    variant's engine is not installed, or its outputs are not finite.
    """
    reference = compressed.predict(evaluation.inputs)
    parity_of = partial(compare_outputs, _rows(reference, evaluation.steps))
    measured, refused = [], dict[str, str]()

    def measure_one(item: Converted) -> MeasuredVariant:
        variant = describe(item.planned, item.artifact, item.notes)
        file, opened = item.artifact.path, variant
        if item.artifact.stand_in is not None and why_not(variant, find_engines()) is not None:
            file, opened = item.artifact.stand_in.path, describe(item.planned, item.artifact.stand_in, ())
            variant = replace(variant, notes=(*variant.notes, MEASURED_INSTEAD))
        with open_file(file, opened, inputs, compressed.outputs) as session:
            outputs = run_samples(session, evaluation.inputs)
            on_golden = run_samples(session, golden.inputs)
            shown = check_golden(session, golden, limit=variant.golden_tolerance).max_error
        if shown is None:
            raise EngineError(f"{variant.id}: its outputs are not finite; leave out precision {variant.precision}")
        value = checked_metric(metric(outputs, evaluation.need_labels()), evaluation.where)
        finished = replace(variant, metrics={metric_name: value}, golden_tolerance=tolerance(variant, shown))
        parity = parity_of(_rows(outputs, evaluation.steps))
        top1 = _top1(_last(reference, evaluation.steps), _last(outputs, evaluation.steps))
        return MeasuredVariant(finished, item.artifact, value, parity, on_golden, top1)

    with progress.task("evaluate", len(converted)) as advance:
        for item in converted:
            try:
                found = measure_one(item)
            except EngineError as problem:
                if not item.planned.candidate:
                    raise
                refused[item.planned.id] = str(problem)
                advance(1, f"{item.planned.id} does not run")
            else:
                measured.append(found)
                advance(1, f"{found.variant.id} {metric_name} {found.metric:.4f}")
    return measured, refused


def compare_pairs(golden: GoldenVectors, variants: Sequence[MeasuredVariant]) -> tuple[Pair, ...]:
    """The compressed Keras model and every variant against each other on the golden inputs."""
    found = {KERAS: golden.outputs, **{item.variant.id: item.golden_outputs for item in variants}}
    runs = {name: _rows(outputs, golden.steps) for name, outputs in found.items()}
    return tuple(Pair(one, other, compare_outputs(runs[one], runs[other])) for one, other in combinations(runs, 2))


def golden_vectors(compressed: FloatModel, evaluation: Data) -> GoldenVectors:
    """A few evaluation samples, spread over the data, and the float model's outputs."""
    samples = evaluation.spread(GOLDEN_SAMPLES)
    return GoldenVectors(samples.inputs, compressed.predict(samples.inputs), samples.steps)


def describe(planned: PlannedVariant, artifact: Artifact, notes: Sequence[str]) -> Variant:
    """The manifest's entry of a converted file, before anything is measured."""
    path = artifact.path
    return Variant(
        id=planned.id,
        format=artifact.format,  # a stand-in has its own
        precision=planned.precision,
        member=Member(f"{planned.id}{path.suffix}", sha256_file(path), path.stat().st_size),
        targets=planned.targets,
        engine=artifact.engine,
        engine_least_version=artifact.engine_least_version,
        inputs=artifact.inputs,
        outputs=artifact.outputs,
        golden_tolerance=TOLERANCE.get(planned.precision, INTEGER_TOLERANCE),
        float_layers=artifact.float_layers,
        notes=(*artifact.notes, *notes),
        tensorrt=artifact.recipe or for_file(planned.tensorrt, artifact.inputs),
        state=artifact.state,
    )


def _rows(outputs: Mapping[str, Array], steps: int | None) -> Mapping[str, Array]:
    """Every step of sequences as a sample."""
    return outputs if steps is None else in_rows(outputs)


def _last(outputs: Mapping[str, Array], steps: int | None) -> Mapping[str, Array]:
    """What sequences end with."""
    return outputs if steps is None else at_the_end(outputs)


def _top1(reference: Mapping[str, Array], outputs: Mapping[str, Array]) -> Top1 | None:
    wanted, found = top1_classes(reference), top1_classes(outputs)
    return None if wanted is None or found is None else Top1(wanted, found)


def tolerance(variant: Variant, shown: float) -> float:
    """What a variant may differ by on the golden inputs, when it has shown a difference of `shown`."""
    if variant.precision in TOLERANCE:
        return variant.golden_tolerance
    return max(variant.golden_tolerance, INTEGER_HEADROOM * shown)
