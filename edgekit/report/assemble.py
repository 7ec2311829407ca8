"""The report of a build, from what its stages found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.budgets import Budget, check_budget
from edgekit.layer_figures import VariantLayers
from edgekit.manifest import Manifest, Variant
from edgekit.measuring import MeasuredVariant, Pair
from edgekit.report.facts import (
    BuildReport,
    DeviceTests,
    GoldenFacts,
    ModelFacts,
    PairFacts,
    ParityFacts,
    SampleFacts,
    VariantFacts,
)
from edgekit.runtime.timing import Timing
from edgekit.trials import Trial

NO_FLOAT_METRIC = "float_metric is null: the model came compressed from a file, without the model that it was made from"


# Why integers can be slower than floats: LiteRT's kernels, and XNNPACK's list of what it takes.
SLOW = {
    "int16x8": "LiteRT computes 16-bit activations in its plain kernels, without XNNPACK",
    "dynamic-int8": "activations are quantized anew in every call, which depthwise convolutions do not win back",
    "int4-weights": "4-bit weights are unpacked while the model runs",
}
SLOWER = 1.1  # from which ratio on: less is noise


@dataclass(frozen=True)
class Findings:
    """What a build's stages found."""

    manifest: Manifest
    variants: Sequence[MeasuredVariant]
    packed_bytes: Mapping[str, int]  # member -> bytes inside the bundle
    trial: Trial
    model: ModelFacts
    preferred: Mapping[str, str]  # target -> the variant that it runs first
    notes: tuple[str, ...] = ()  # on the build as a whole
    pairs: Sequence[Pair] = ()
    layers: tuple[VariantLayers, ...] = ()
    samples: tuple[SampleFacts, ...] = ()


def assemble(found: Findings, budget: Budget) -> BuildReport:
    """The report, with its verdict on the budget."""
    variants = tuple(_variant(item, found) for item in found.variants)
    unmeasured = (NO_FLOAT_METRIC,) if found.model.float_metric is None else ()
    return BuildReport(
        model=found.model,
        variants=variants,
        parity=tuple(_parity(item, found.model.evaluation_samples) for item in found.variants),
        golden=tuple(
            GoldenFacts(result.variant, result.max_error, result.limit, result.passed)
            for result in found.trial.golden.results
        ),
        device_tests=_tests(found.trial),
        budget=check_budget(budget, variants, found.preferred),
        provenance=found.manifest.provenance,
        notes=(*unmeasured, *found.notes),
        pairs=tuple(PairFacts(pair.reference, pair.other, **dataclasses.asdict(pair.parity)) for pair in found.pairs),
        layers=found.layers,
        samples=found.samples,
    )


def _variant(item: MeasuredVariant, found: Findings) -> VariantFacts:
    variant = item.variant
    timings = {result.choice.variant: result for result in found.trial.bench.results}
    rejected = {entry.variant: entry.reason for entry in found.trial.bench.rejected}
    timed = timings.get(variant.id)
    untimed = () if timed else (f"not timed on {found.trial.device}: {rejected.get(variant.id, 'not run there')}",)
    float_metric = found.model.float_metric
    return VariantFacts(
        id=variant.id,
        format=variant.format,
        precision=variant.precision,
        member=variant.member.path,
        targets=variant.targets,
        bytes=variant.member.bytes,
        packed_bytes=found.packed_bytes[variant.member.path],
        ratio=found.model.float_bytes / variant.member.bytes,
        metric=item.metric,
        metric_drop=None if float_metric is None else float_metric - item.metric,
        median_ms=timed.timing.median_ms if timed else None,
        p90_ms=timed.timing.p90_ms if timed else None,
        samples=timed.timing.runs if timed else None,
        engine=f"{variant.engine} {timed.choice.engine_version}" if timed else variant.engine,
        device=describe_device(found.trial) if timed else None,
        float_layers=variant.float_layers,
        notes=(*variant.notes, *untimed, *slow_note(variant, {name: item.timing for name, item in timings.items()})),
        samples_ms=timed.timing.samples_ms if timed else (),
    )


def slow_note(variant: Variant, timings: Mapping[str, Timing]) -> tuple[str, ...]:
    """That a variant is slower than its format's fp32, timed in the same run; nothing where either was not timed."""
    own, whole = timings.get(variant.id), timings.get(f"{variant.format}-fp32")
    if own is None or whole is None or own.median_ms < SLOWER * whole.median_ms:
        return ()
    why = f": {SLOW[variant.precision]}" if variant.format == "tflite" and variant.precision in SLOW else ""
    slower = f"{own.median_ms / whole.median_ms:.1f}x slower here than {variant.format}-fp32"
    return (f"{slower} ({own.median_ms:.4g} against {whole.median_ms:.4g} ms){why}",)


def describe_device(trial: Trial) -> str:
    """`local: Linux x86_64, 2 CPUs, 1 thread`."""
    probe = trial.probe
    return f"{trial.device} {probe.system} {probe.machine}, {probe.cpus} CPUs, 1 thread"


def _parity(item: MeasuredVariant, samples: int) -> ParityFacts:
    return ParityFacts(item.variant.id, samples, **dataclasses.asdict(item.parity))


def _tests(trial: Trial) -> DeviceTests:
    return DeviceTests(trial.device, trial.tests.passed, trial.tests.failed, trial.tests.skipped)
