"""`report.json`. A figure that was not measured is null, and a note says why."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.budgets import BudgetVerdict
from edgekit.errors import ConfigError
from edgekit.layer_figures import VariantLayers
from edgekit.manifest import Provenance

FORMAT = "edgekit-report"
FORMAT_VERSION = 1
_PNG = b"\x89PNG\r\n\x1a\n"
MOST_SAMPLES = 400  # of one latency distribution


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


def is_png(text: str) -> bool:
    """Whether text is the base64 of a PNG."""
    try:
        return base64.b64decode(text, validate=True).startswith(_PNG)
    except ValueError:
        return False


@dataclass(frozen=True)
class SampleFacts:
    """One evaluation sample and the class that each file gives it: a golden input, or one whose class changed."""

    row: int  # in the evaluation data, from 0
    golden: bool  # whether it is one of the bundle's golden inputs
    expected: str | None  # its label; None where the labels are no classes
    reference: str  # the class that the compressed model gives in float
    predictions: Mapping[str, str]  # variant -> its class
    picture: str | None = None  # base64 of a PNG, where the input is an image

    def __post_init__(self) -> None:
        if self.picture is not None and not is_png(self.picture):
            raise ConfigError(f"the picture of sample {self.row} is not the base64 of a PNG")


@dataclass(frozen=True)
class BenchFacts:
    """A latency that was measured after the build, with `edgekit bench`."""

    variant: str
    device: str
    engine: str
    threads: int
    runs: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    samples_ms: tuple[float, ...]  # at most MOST_SAMPLES of them, spread evenly over the sorted ones


@dataclass(frozen=True)
class HistoryPoint:
    """What one version came to on one device."""

    version: str
    time: str | None  # ISO 8601, UTC; None where nobody noted it
    device: str
    variant: str
    metric: float | None = None
    bytes: int | None = None
    median_ms: float | None = None
    p90_ms: float | None = None


@dataclass(frozen=True)
class BuildReport:
    """Everything that a build found, and what was measured of it later."""

    model: ModelFacts
    variants: tuple[VariantFacts, ...]
    parity: tuple[ParityFacts, ...]
    golden: tuple[GoldenFacts, ...]
    device_tests: DeviceTests
    budget: BudgetVerdict
    provenance: Provenance
    notes: tuple[str, ...] = ()
    pairs: tuple[PairFacts, ...] = ()  # all of them
    layers: tuple[VariantLayers, ...] = ()
    samples: tuple[SampleFacts, ...] = ()
    benches: tuple[BenchFacts, ...] = ()  # on more devices than the one of the build
    history: tuple[HistoryPoint, ...] = ()  # the oldest first


def to_json(report: BuildReport) -> dict[str, object]:
    """The report as JSON values, with its format and version."""
    body = json.loads(json.dumps(dataclasses.asdict(report), allow_nan=False))
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **body}
