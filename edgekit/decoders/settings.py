"""A project file of a language model, parsed strictly: what `[language]` says beside the model and its targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any  # Any: TOML values

from edgekit.budgets import Budget
from edgekit.conversion import VARIABLES
from edgekit.decoding import DEFAULT_PREFILL
from edgekit.devices import LOCAL
from edgekit.errors import ConfigError, did_you_mean
from edgekit.lengths import Lengths
from edgekit.planning import Plan, plan
from edgekit.profiles import load_target
from edgekit.project import check_name
from edgekit.recipe import read_toml
from edgekit.strict import parse

FORMAT = "tflite"  # the one that keeps keys and values from token to token
# precision -> by how much its perplexity may be above the float model's, as a fraction of it
PERPLEXITY_RISE = {"fp32": 0.001, "fp16": 0.005, "dynamic-int8": 0.01, "int4-weights": 0.05}
_TABLE = "language"

Precisions = Mapping[str, tuple[str, ...]]  # by target


@dataclass(frozen=True)
class LanguageSettings:
    """The table `[language]`; paths are relative to the project file."""

    context: int  # tokens that are kept: a prompt and what follows it
    evaluation: str  # a UTF-8 file of text that the model was not trained on
    prefill: int = DEFAULT_PREFILL  # tokens of a prompt that are read at once
    evaluation_tokens: int = 512  # of its beginning, in texts of `context`
    tokenizer: str | None = None  # a tokenizer.json; None: that of the model's folder
    stop: tuple[str, ...] | None = None  # tokens that end a text; None: those of the model's folder
    prompts: tuple[str, ...] = ()  # golden ones; none: pieces of the evaluation text
    expected_tokens: int = 16  # that the float model adds to each
    max_perplexity_rise: Mapping[str, float] = field(default_factory=dict)  # by precision, instead of PERPLEXITY_RISE

    def __post_init__(self) -> None:
        if self.evaluation_tokens < 2 or self.expected_tokens < 1:
            raise ConfigError(
                f"language: evaluation_tokens is {self.evaluation_tokens} and expected_tokens {self.expected_tokens}, "
                "expected at least 2 and 1"
            )
        for precision, rise in self.max_perplexity_rise.items():
            check_precision(precision, "language.max_perplexity_rise")
            if rise < 0:
                raise ConfigError(
                    f"language.max_perplexity_rise.{precision} is {rise}, expected a fraction of 0 or more"
                )

    def rise(self, precision: str) -> float:
        """What a variant's perplexity may lose, as a fraction of the float model's."""
        return self.max_perplexity_rise.get(precision, PERPLEXITY_RISE[precision])


@dataclass(frozen=True)
class _Target:
    precision: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    """The TOML file as it stands."""

    name: str
    version: str
    model: str
    language: LanguageSettings
    targets: Mapping[str, _Target]
    lengths: Mapping[str, Any] | None = None
    convert: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    device: str = LOCAL


@dataclass(frozen=True)
class LanguageProject:
    """A project file of a language model, checked; paths are located."""

    name: str
    version: str
    model: Path
    settings: LanguageSettings
    targets: Precisions
    lengths: Lengths | None
    convert: Mapping[str, Mapping[str, object]]
    budget: Budget
    device: str


def is_language_project(path: Path) -> bool:
    """Whether a project file has a table `[language]`. Raises ConfigError when it cannot be read."""
    return _TABLE in read_toml(path, what="project file")


def load_language_project(path: Path) -> LanguageProject:
    """Read a project file with `[language]`. Raises ConfigError that names the key."""
    file = parse(_File, read_toml(path, what="project file"), where=path.name)
    check_name(file.name, file.version, where=path.name)
    settings = file.language
    tokenizer = None if settings.tokenizer is None else str(path.parent / settings.tokenizer)
    return LanguageProject(
        name=file.name,
        version=file.version,
        model=path.parent / file.model,
        settings=replace(settings, evaluation=str(path.parent / settings.evaluation), tokenizer=tokenizer),
        targets={name: target.precision for name, target in file.targets.items()},
        lengths=file.lengths,
        convert=file.convert,
        budget=file.budget,
        device=file.device,
    )


def plan_language(targets: Precisions) -> Plan:
    """The variants to make. Raises ConfigError for a target or a precision that a language model cannot have."""
    for name, precisions in targets.items():
        formats = load_target(name).formats
        if FORMAT not in formats:
            raise ConfigError(
                f"target '{name}' takes {' and '.join(formats)}, and a language model's bundle holds {FORMAT}, whose "
                f"files keep what was read in {VARIABLES}: choose a target that takes it"
            )
        for precision in precisions:
            check_precision(precision, f"targets.{name}.precision")
    return plan(targets, FORMAT)


def check_precision(precision: str, where: str) -> None:
    """Raise ConfigError for one that needs ranges of activations, which two functions of one file do not share."""
    if precision not in PERPLEXITY_RISE:
        raise ConfigError(f"{where} has '{precision}'{did_you_mean(precision, PERPLEXITY_RISE)}")
