"""What a build is asked for, and what it begins with: the model and the data, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.budgets import Budget
from edgekit.calibration import manifest_inputs, representative
from edgekit.compression import Step, TrainingSettings
from edgekit.compression.order import needs_data
from edgekit.compression.task import takes_class_numbers
from edgekit.conversion import INPUTS_OUTPUTS, STATEFUL_FORMATS, Converter, find_converter
from edgekit.converting import Options
from edgekit.data import Data, DataSource, load_data
from edgekit.devices import LOCAL
from edgekit.engine_recipes import Recipes
from edgekit.errors import ConfigError, DataError
from edgekit.exporting import check_float, check_names
from edgekit.given import GivenModel, given_format, given_model
from edgekit.lengths import Lengths
from edgekit.loading import FloatModel, LoadedModel, load, need_classes
from edgekit.manifest import Input
from edgekit.metadata import MetadataSettings, ModelMetadata, describe_model
from edgekit.planning import Targets
from edgekit.preparation import Declared, check_preprocessing
from edgekit.progress import LoggedProgress, Progress
from edgekit.states import chosen_states

MOST_STEPS = 2000  # that integer ranges are measured on, of a model with state


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
    device: str = LOCAL
    preprocessing: Declared = field(default_factory=dict)
    progress: Progress = field(default_factory=LoggedProgress)


def name_and_version(output: Path) -> tuple[str, str]:
    """`digits-1.0.0.edgekit` -> ("digits", "1.0.0"). Raises ConfigError."""
    name, dash, version = output.name.removesuffix(".edgekit").rpartition("-")
    if output.suffix != ".edgekit" or not dash:
        raise ConfigError(f"output is {output.name}, expected NAME-VERSION.edgekit, for example digits-1.0.0.edgekit")
    return name, version


@dataclass(frozen=True)
class BuildInputs:
    """What came in, checked."""

    model: LoadedModel | GivenModel
    evaluation: Data
    calibration: Data
    train: Data | None

    @property
    def single_calls(self) -> Data:
        """The calibration data as converters take it: of sequences, steps with the states that each began with.

        At most MOST_STEPS of them, spread evenly over all sequences.
        """
        data = self.calibration
        if data.steps is None or isinstance(self.model, GivenModel):
            return data
        return replace(data, inputs=self.model.single_steps(data.inputs), labels=None, steps=None).spread(MOST_STEPS)

    @property
    def by_role(self) -> dict[str, Data]:
        """What there is of the data, by what it was for."""
        roles = {"train": self.train, "calibration": self.calibration, "evaluation": self.evaluation}
        return {role: data for role, data in roles.items() if data is not None}


def load_inputs(request: BuildRequest, converters: Mapping[str, Converter], folder: Path) -> BuildInputs:
    """Read the model and the data of a build. Raises EdgekitError where one of them does not fit the request."""
    model = _load_model(request, converters, folder)
    if request.metric == "top1":
        need_classes(model, why="metric top1")
    evaluation = load_data(
        request.evaluation, model.inputs, where="evaluation data", classes=model.classes,
        any_labels=request.metric != "top1", in_steps=model.stateful,
    )  # fmt: skip
    evaluation.need_labels()
    source = request.calibration if request.calibration is not None else request.train
    if source is None:
        raise DataError("calibration data is missing: give calibration, or train")
    if request.train is None and any(map(needs_data, request.recipe)):
        raise DataError("training data for the recipe is missing: give train")
    if request.labels is not None and len(request.labels) != need_classes(model, why="labels"):
        raise ConfigError(f"{len(request.labels)} labels, expected {model.classes}, one for each class")
    calibration = representative(source, model.inputs, samples=request.calibration_samples, in_steps=model.stateful)
    check_preprocessing(request.preprocessing, described_inputs(request, model, calibration))
    embedded_metadata(request, model, calibration)
    train = None
    if request.train is not None and isinstance(model, LoadedModel) and not model.stateful:
        train = load_data(
            request.train, model.inputs, where="training data", classes=model.classes,
            any_labels=not takes_class_numbers(model, request.training.loss),
        )  # fmt: skip
    return BuildInputs(model, evaluation, calibration, train)


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
        return given_model(path, converters.get(found, find_converter(found)), folder, lengths=request.lengths)
    model = load(
        request.model, architecture=request.architecture, allow_code=request.allow_code, lengths=request.lengths
    )
    check_names(model.inputs, model.outputs)
    check_float(model)
    if model.stateful:
        _check_stateful(request, model, converters)
    return model


def _check_stateful(request: BuildRequest, model: LoadedModel, converters: Mapping[str, Converter]) -> None:
    """Raise ModelError, or ConfigError for what a model with state does not go together with."""
    chosen_states(model.model, INPUTS_OUTPUTS)
    keeps = f"'{model.name}' keeps state from call to call"
    others = [name for name in converters if name not in STATEFUL_FORMATS]
    if others:
        formats = " and ".join(STATEFUL_FORMATS)
        raise ConfigError(f"{keeps}, which only {formats} files do: leave out the targets that take {others[0]}")
    if request.recipe:
        raise ConfigError(
            f"{keeps}, and compression trains on samples that do not depend on each other: compress the model of whole "
            "sequences, and load the result's weights into the one with state"
        )


def described_inputs(request: BuildRequest, model: FloatModel, calibration: Data) -> tuple[Input, ...]:
    """The inputs as the manifest tells of them."""
    return manifest_inputs(model.inputs, calibration, request.preprocessing)


def embedded_metadata(request: BuildRequest, model: FloatModel, calibration: Data) -> ModelMetadata | None:
    """What the files will say of themselves. Raises ConfigError on settings that do not fit the model."""
    if request.metadata is None:
        return None
    return describe_model(
        request.metadata,
        identity=name_and_version(request.output),
        inputs=described_inputs(request, model, calibration),
        outputs=model.outputs,
        labels=None if request.labels is None else tuple(request.labels),
    )
