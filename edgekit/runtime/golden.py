"""Golden vectors: a few real inputs and the float model's outputs, to which every variant is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.bundle import Bundle
from edgekit.errors import BundleError
from edgekit.runtime.arrays import parse_npz, write_npz
from edgekit.runtime.choosing import Choice
from edgekit.runtime.sequences import run_samples
from edgekit.runtime.session import Session
from edgekit.tensors import Array

_INPUTS, _OUTPUTS = "inputs/", "outputs/"


@dataclass(frozen=True)
class GoldenVectors:
    """Inputs and expected outputs by Keras name; the first dimension counts samples, the second steps if there are."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    steps: int | None = None  # of each sample, which is a sequence from the beginning of the model's state

    @property
    def first(self) -> dict[str, Array]:
        """The inputs of one call: the first sample, or the first step of it."""
        return {name: array[:1] if self.steps is None else array[0, :1] for name, array in self.inputs.items()}


@dataclass(frozen=True)
class GoldenResult:
    """How far a variant is from the golden outputs.

    `max_error` is the largest |difference| as a fraction of the golden output's largest magnitude, over all outputs;
    `limit` is the variant's tolerance in the same unit.
    """

    variant: str
    engine: str
    accelerator: str
    samples: int
    max_error: float | None  # None when the outputs hold NaN or infinity where the golden ones do not
    limit: float
    passed: bool
    top1_agreement: float | None  # of samples, or their steps; None unless the first output holds scores of classes


def write_golden(path: Path, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    """Write the golden member: an `.npz` of `inputs/NAME` and `outputs/NAME`."""
    arrays = {_INPUTS + name: array for name, array in inputs.items()}
    write_npz(path, arrays | {_OUTPUTS + name: array for name, array in outputs.items()})


def read_golden(bundle: Bundle) -> GoldenVectors:
    """The bundle's golden vectors, checked against its manifest. Raises BundleError."""
    member = bundle.manifest.golden.member.path
    where = f"{bundle.path.name}: {member}"
    arrays = parse_npz(bundle.read(member), where=where)
    expected = [_INPUTS + item.name for item in bundle.manifest.inputs]
    expected += [_OUTPUTS + item.name for item in bundle.manifest.outputs]
    if sorted(arrays) != sorted(expected):
        raise BundleError(f"{where} holds {', '.join(arrays)}, expected {', '.join(expected)}; build the bundle again")
    steps = bundle.manifest.golden.steps
    for name, array in arrays.items():
        if steps is not None and array.shape[1:2] != (steps,):
            raise BundleError(f"{where}: '{name}' has shape {array.shape}, expected {steps} steps in each sample")
    return GoldenVectors(
        {item.name: arrays[_INPUTS + item.name] for item in bundle.manifest.inputs},
        {item.name: arrays[_OUTPUTS + item.name] for item in bundle.manifest.outputs},
        steps,
    )


def check_golden(session: Session, vectors: GoldenVectors, *, limit: float) -> GoldenResult:
    """Run the golden inputs and compare the outputs.

    Those of a model with state are sequences, each from its beginning; without steps they are one stream.
    """
    if session.stateful:
        session.reset_state()
    return judge(session.choice, run_samples(session, vectors.inputs), vectors, limit=limit)


def judge(choice: Choice, outputs: Mapping[str, Array], vectors: GoldenVectors, *, limit: float) -> GoldenResult:
    """Hold what was run, on the golden inputs, to the golden outputs."""
    max_error = max(_error(outputs[name], golden) for name, golden in vectors.outputs.items())
    first = next(iter(vectors.outputs))
    return GoldenResult(
        variant=choice.variant,
        engine=choice.engine,
        accelerator=choice.accelerator,
        samples=len(next(iter(vectors.inputs.values()))),
        max_error=max_error if np.isfinite(max_error) else None,
        limit=limit,
        passed=bool(max_error <= limit),
        top1_agreement=_top1_agreement(outputs[first], vectors.outputs[first], vectors.steps),
    )


def _error(output: Array, golden: Array) -> float:
    if output.shape != golden.shape:
        return float("inf")
    if not golden.size:
        return 0.0
    reference = golden.astype(np.float64)
    difference = np.abs(output.astype(np.float64) - reference)
    magnitude = float(np.max(np.abs(reference))) or 1.0
    worst = float(np.max(difference)) / magnitude
    return worst if np.isfinite(worst) else float("inf")


def _top1_agreement(output: Array, golden: Array, steps: int | None) -> float | None:
    """Of samples, or of their steps."""
    if golden.ndim != (2 if steps is None else 3) or golden.shape[-1] < 2 or output.shape != golden.shape:
        return None
    return float(np.mean(output.argmax(axis=-1) == golden.argmax(axis=-1)))
