"""The steps: frozen values that check themselves. Their type selects the work (`apply.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal  # Any: a keras.Model as the student

from edgekit.errors import ConfigError, did_you_mean
from edgekit.strict import parse

Engine = Literal["keras", "tfmot"]


@dataclass(frozen=True)
class Distill:
    """Train a smaller student to imitate the model (Hinton et al. 2015, "Distilling the Knowledge …").

    The student is either a narrower copy of the model (`width` times its channels) or a model of its own.
    """

    width: float | None = None  # fraction of channels and units kept, the last layer's excepted
    student: str | Path | Any | None = None  # a .keras path or a Keras 3 model with the same inputs and outputs
    epochs: int = 5
    temperature: float = 3.0  # softens both distributions
    weight: float = 0.7  # of the teacher's soft labels; the true labels weigh 1 - weight
    learning_rate: float = 3e-3  # at the start; cosine decay to zero
    batch_size: int = 64

    def __post_init__(self) -> None:
        if (self.width is None) == (self.student is None):
            raise ConfigError("Distill needs either a width or a student; give exactly one of them")
        if self.width is not None:
            _fraction("Distill.width", self.width, least=0.0, below=1.0, open_low=True)
        _fraction("Distill.weight", self.weight, least=0.0, below=1.0001)
        _positive("Distill.temperature", self.temperature)
        _training("Distill", self.epochs, self.learning_rate, self.batch_size)


@dataclass(frozen=True)
class Prune:
    """Set the smallest weights of each kernel to zero while fine-tuning (Zhu & Gupta 2017).

    Magnitude pruning, unstructured, per layer. Sparsity rises along a cubic curve during the first 60 % of the
    training (`schedule="polynomial"`) or is there from the start (`"constant"`). Biases, BatchNormalization and
    depthwise kernels are left alone.
    """

    sparsity: float  # fraction of each kernel's weights that become zero
    epochs: int = 3
    schedule: Literal["polynomial", "constant"] = "polynomial"
    learning_rate: float = 2e-3
    batch_size: int = 64
    engine: Engine = "keras"  # "tfmot" runs TFMOT on the bridged model

    def __post_init__(self) -> None:
        _fraction("Prune.sparsity", self.sparsity, least=0.0, below=1.0)
        _choice("Prune.schedule", self.schedule, ("polynomial", "constant"))
        _choice("Prune.engine", self.engine, ("keras", "tfmot"))
        _training("Prune", self.epochs, self.learning_rate, self.batch_size)


@dataclass(frozen=True)
class QuantizeAware:
    """Fine-tune with simulated int8 arithmetic (Jacob et al. 2018), BatchNormalization folded first; zeros stay zero.

    Activations are asymmetric per tensor; convolution kernels symmetric per channel, dense kernels per tensor.
    """

    epochs: int = 2
    learning_rate: float = 2e-4
    batch_size: int = 64
    engine: Engine = "keras"

    def __post_init__(self) -> None:
        _choice("QuantizeAware.engine", self.engine, ("keras", "tfmot"))
        _training("QuantizeAware", self.epochs, self.learning_rate, self.batch_size)


Step = Distill | Prune | QuantizeAware

STEPS: Mapping[str, type[Step]] = {"distill": Distill, "prune": Prune, "quantize-aware": QuantizeAware}


def parse_step(table: Mapping[str, object], *, where: str) -> Step:
    """A step from its TOML table: `step` names it, the other keys are its arguments. Raises ConfigError."""
    name = table.get("step")
    if not isinstance(name, str) or name not in STEPS:
        raise ConfigError(f"{where}: unknown step {name!r}{did_you_mean(str(name), STEPS)}")
    arguments = {key: value for key, value in table.items() if key != "step"}
    return parse(STEPS[name], arguments, where=where)


def step_name(step: Step) -> str:
    """The TOML name of a step."""
    return next(name for name, kind in STEPS.items() if isinstance(step, kind))


def step_table(step: Step) -> dict[str, object]:
    """The step as its TOML table; a student model is named."""
    table = {key: value for key, value in asdict(step).items() if value is not None}
    if "student" in table:
        table["student"] = str(getattr(table["student"], "name", table["student"]))
    return {"step": step_name(step), **table}


def _number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} is {value!r}, expected a number")


def _fraction(name: str, value: float, *, least: float, below: float, open_low: bool = False) -> None:
    _number(name, value)
    if not (least < value < below if open_low else least <= value < below):
        hint = f"; for {value:g} % write {value / 100:g}" if 5 <= value <= 100 else ""
        bounds = f"{'(' if open_low else '['}{least:g}, {'1]' if below > 1 else '1)'}"
        raise ConfigError(f"{name} is a fraction in {bounds}, got {value:g}{hint}")


def _positive(name: str, value: float) -> None:
    _number(name, value)
    if value <= 0:
        raise ConfigError(f"{name} must be above 0, got {value:g}")


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} is '{value}'{did_you_mean(value, known)}")


def _training(step: str, epochs: int, learning_rate: float, batch_size: int) -> None:
    _number(f"{step}.epochs", epochs)
    if epochs < 1 or epochs != int(epochs):
        raise ConfigError(f"{step}.epochs must be a whole number, 1 or more, got {epochs}")
    _positive(f"{step}.learning_rate", learning_rate)
    _positive(f"{step}.batch_size", batch_size)
