"""`report.json`. A figure that was not measured is null, and a note says why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.budgets import BudgetVerdict

FORMAT = "edgekit-report"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ModelFacts:
    """The model that the user brought, and what compression left of it."""

    name: str
    version: str
    metric_name: str
    float_metric: float | None  # of the model that the user brought
    float_parameters: int
    float_bytes: int  # 4 x its parameters
    compressed_metric: float | None  # of the compressed Keras model, in float
    compressed_parameters: int
    compressed_sparsity: float | None  # fraction of zero weights in its kernels; null where no Keras model was brought
    evaluation_samples: int


@dataclass(frozen=True)
class VariantFacts:
    """One variant, as it was measured in this build."""

    id: str
    format: str
    precision: str
    member: str
    targets: tuple[str, ...]
    bytes: int
    packed_bytes: int  # what it takes inside the bundle, deflated
    ratio: float  # float_bytes / bytes
    metric: float | None
    metric_drop: float | None  # float_metric - metric
    median_ms: float | None
    p90_ms: float | None
    samples: int | None  # timed runs
    engine: str
    device: str | None  # where it was timed
    float_layers: tuple[str, ...]
    notes: tuple[str, ...]
    samples_ms: tuple[float, ...]


@dataclass(frozen=True)
class ParityFacts:
    """One variant against the float model that it was made from, on evaluation data."""

    variant: str
    samples: int
    max_abs: float
    cosine: float | None
    snr_db: float | None
    top1_agreement: float | None


@dataclass(frozen=True)
class PairFacts:
    """Two variants against each other, or one and the compressed Keras model, on the golden inputs."""

    reference: str  # a variant's id, or "keras"
    other: str
    max_abs: float
    cosine: float | None
    snr_db: float | None
    top1_agreement: float | None


@dataclass(frozen=True)
class GoldenFacts:
    """One variant against the bundle's golden outputs, on the device."""

    variant: str
    max_error: float | None
    limit: float
    passed: bool


@dataclass(frozen=True)
class DeviceTests:
    """How the device tests ended."""

    device: str
    passed: int
    failed: int
    skipped: int


@dataclass(frozen=True)
class BuildReport:
    """Everything that a build found."""

    model: ModelFacts
    variants: tuple[VariantFacts, ...]
    parity: tuple[ParityFacts, ...]
    golden: tuple[GoldenFacts, ...]
    device_tests: DeviceTests
    budget: BudgetVerdict
    provenance: Mapping[str, object]
    notes: tuple[str, ...] = ()
    pairs: tuple[PairFacts, ...] = ()  # all of them


def to_json(report: BuildReport) -> dict[str, object]:
    """The report as JSON values, with its format and version."""
    body = json.loads(json.dumps(dataclasses.asdict(report), allow_nan=False))
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **body}
