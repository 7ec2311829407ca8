"""The converter contract: what a converter is given, what it gives back, and how one is found.

Built-in converters and anybody else's come through the same door: the entry-point group `edgekit.converters`,
whose name is the format and whose value is an object with this Protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgekit.errors import ConversionError, did_you_mean
from edgekit.manifest import FORMATS, Binding, State
from edgekit.metadata import ModelMetadata
from edgekit.tensorrt.recipe import Recipe
from edgekit.tensors import Array, TensorSpec, check_finite
from edgekit.tracing import Trace

CONVERTERS = "edgekit.converters"
CHECKERS = "edgekit.checkers"

FIXED_SIGNATURE = "fixed"  # SavedModel signature with batch 1
DYNAMIC_SIGNATURE = "dynamic"  # the same function with a dynamic batch
SIGNATURES = (FIXED_SIGNATURE, DYNAMIC_SIGNATURE)
STATEFUL_FORMATS = ("tflite", "onnx")
VARIABLES, INPUTS_OUTPUTS = STATE_FORMS = ("variables", "inputs-outputs")  # of what a model keeps from call to call


@dataclass(frozen=True)
class StatePort:
    """One tensor of state as a model that is handed it takes and gives it."""

    taken: TensorSpec
    given: TensorSpec
    shape: tuple[int, ...]  # of one stream


@dataclass(frozen=True)
class Source:
    """A model on its way to the converters: SavedModels, so that no converter needs Keras or custom layers.

    Both SavedModels carry the signatures `signature` and DYNAMIC_SIGNATURE, or those of the two that its converters
    read, keyed by the Keras names; that of a model with state carries `signature` alone.
    """

    name: str
    inputs: tuple[TensorSpec, ...]  # Keras names and order; batch is None
    outputs: tuple[TensorSpec, ...]
    float_model: Path  # SavedModel of the float model, or a file of the converter's own format that was given
    trained_model: Path | None  # SavedModel with trained fake-quantization of activations and weights, after QAT
    work: Path  # scratch folder that lives as long as the build; converters share exports here
    layers: tuple[str, ...] = ()  # names of all Keras layers; none for a file that no Keras model stands behind
    metadata: ModelMetadata | None = None  # to be embedded by formats that have a place for it
    state: str | None = None  # one of STATE_FORMS; None for a model without state
    states: tuple[StatePort, ...] = ()  # of INPUTS_OUTPUTS: the last of `inputs` and `outputs`
    signature: str = FIXED_SIGNATURE  # what the SavedModels call the signature of batch 1
    other_signatures: tuple[str, ...] = ()  # more of them, with inputs and outputs of their own
    constants: Path | None = None  # folder of NAME.npy for what each signature takes beside; a file has them inside
    batch: int = 1  # how many samples a given file takes at once; 1 where it takes any number
    notes: tuple[str, ...] = ()  # what putting a given file in order changed

    def signature_names(self) -> tuple[str, ...]:
        """Input names in order."""
        return tuple(spec.name for spec in self.inputs)


@dataclass(frozen=True)
class Artifact:
    """One converted file and how to feed it."""

    format: str
    precision: str
    path: Path
    inputs: tuple[Binding, ...]  # in the engine's order
    outputs: tuple[Binding, ...]
    engine: str  # the runtime engine that runs it
    engine_least_version: str
    float_layers: tuple[str, ...] = ()  # what stayed float in an integer file, or float32 in a float16 one
    notes: tuple[str, ...] = ()  # what a reader of the report must know
    stand_in: Artifact | None = None  # what it was built from, which is measured where its engine cannot run
    no_bundle: str | None = None  # why no bundle can hold it; None where one can
    recipe: Recipe | None = None  # of TensorRT, of an engine that was built by it
    state: State | None = None  # what a session hands on; a converter leaves it among `inputs` and `outputs`
    data: Path | None = None  # the file beside `path` that holds its weights; None where `path` does


@dataclass(frozen=True)
class Layer:
    """One operator of a converted file, or one layer of a Keras model, as `edgekit inspect` shows it."""

    name: str
    type: str
    bytes: int  # of its constants
    precision: str  # of its weights, or of its output where it has none
    sparsity: float | None  # fraction of zero weights; None without weights
    runtime: str | None = None  # the first TensorFlow whose TFLite runtime has it; None where nobody says


@dataclass(frozen=True)
class Signature:
    """A function of a file that can be called by its name."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Inspection:
    """What is inside a model file."""

    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    bytes: int  # of the file
    parameters: int
    layers: tuple[Layer, ...]
    metadata: ModelMetadata | None = None
    min_runtime_version: str | None = None  # of TensorFlow: the first whose TFLite runtime has every operator
    precision: str | None = None  # the name that describes the whole file best; None where the format does not tell
    signatures: tuple[Signature, ...] = ()  # of a format that has them


class Converter(Protocol):
    """Makes one format. Heavy work runs in a subprocess with a timeout: some inputs crash the converters."""

    @property
    def format(self) -> str:
        """The name of the format."""
        ...

    @property
    def suffix(self) -> str:
        """What its file names end in: ".tflite"."""
        ...

    @property
    def precisions(self) -> tuple[str, ...]:
        """What it makes."""
        ...

    @property
    def signatures(self) -> tuple[str, ...]:
        """Which of SIGNATURES it reads."""
        ...

    def with_options(self, options: object, *, where: str) -> Converter:
        """This converter with the user's settings: a table as in `[convert.FORMAT]`, or its own options object.

        `where` is for the message. Raises ConfigError on an unknown key or value.
        """
        ...

    def convert(
        self, source: Source, *, precision: str, calibration: Mapping[str, Array] | None, output: Path
    ) -> Artifact:
        """Write `output`.

        `calibration` maps each input name to an array of real samples, shape (n, ...); an integer precision needs it
        unless `source.trained_model` brings trained ranges. Raises ConversionError.
        """
        ...

    def inspect(self, path: Path) -> Inspection:
        """Read one file of this format. Raises ConversionError when it is not one."""
        ...

    def trace(self, path: Path) -> Trace:
        """Open one file of this format to see its activations. Raises ConversionError.

        Engines crash on some files: call it in a process of its own.
        """
        ...


@runtime_checkable
class GivenConverter(Converter, Protocol):
    """A converter that puts a file of its own format in order before anything is made of it."""

    def prepare(self, path: Path, output: Path, *, shapes: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
        """Write `output` from a file that nobody vouches for; returns what was changed.

        `shapes` are sizes beside the batch, by input name. Raises ConversionError.
        """
        ...


@runtime_checkable
class NpuConverter(Protocol):
    """A converter that can also have its files compiled ahead of time for a phone's NPU."""

    def npu_compiler(self, npu: str) -> Callable[[Path, Path], str]:
        """What compiles a file of this format for "VENDOR:SOC", writes another, and says what came of it.

        Raises ConfigError; the function raises ConversionError that says what is missing.
        """
        ...


@runtime_checkable
class GpuConverter(Protocol):
    """A converter whose files are built for GPUs that need not be here, from files of another format."""

    @property
    def built_from(self) -> str:
        """The format of those files."""
        ...

    def for_gpus(self, compute_capabilities: tuple[str, ...]) -> Converter:
        """This converter with these GPUs in mind ("SM89"), unless the user's settings name others."""
        ...

    def reporting(self, progress: Callable[[float], object]) -> Converter:
        """This converter, which calls `progress` with the fraction of an engine that is built."""
        ...


@dataclass(frozen=True)
class Verdict:
    """What a checker says of an artifact."""

    checker: str  # "TensorRT-RTX 1.7.1 parser and builder"
    accepted: bool
    detail: str  # why it was refused, or what was planned ("5 of 5 weighted layers planned as Int8")
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What a vendor's tool refuses in a file, or takes without a word and gets wrong."""

    rule: str  # "zero-point"
    node: str  # or the tensor, or the graph
    problem: str  # "its zero point is 7"
    remedy: str

    def __str__(self) -> str:
        return f"{self.rule}: '{self.node}': {self.problem}; {self.remedy}"


@runtime_checkable
class Linter(Protocol):
    """A converter that knows a vendor's rules for its files."""

    def lint(self, path: Path, *, tool: str) -> tuple[Finding, ...]:
        """What `tool` ("tensorrt") would not take of one file; nothing of a damaged file escapes as an error.

        Raises ConfigError for a tool that it does not know, ConversionError when there is no such file.
        """
        ...

    def legalize(self, path: Path, output: Path, *, tool: str) -> tuple[str, ...]:
        """Write a copy in which everything is mended that can be without a change of meaning; what was done, in words.

        Raises ConfigError and ConversionError.
        """
        ...


class Checker(Protocol):
    """Asks a vendor's own tool whether it takes an artifact, without running it."""

    def available(self) -> str | None:
        """None when it can check here, else the reason and what to install."""
        ...

    def check(self, artifact: Artifact, *, work: Path) -> Verdict:
        """Raises ConversionError when the tool itself breaks."""
        ...


def find_converter(format_name: str) -> Converter:
    """The converter of a format. Raises ConversionError that lists what is installed."""
    converter: Converter = find_installed(CONVERTERS, format_name).load()
    return converter


def find_checker(name: str) -> Checker:
    """A checker by its entry-point name. Raises ConversionError that lists what is installed."""
    checker: Checker = find_installed(CHECKERS, name).load()
    return checker


def find_linter(format_name: str) -> Linter:
    """The converter of a format, which knows what others take of its files. Raises ConversionError."""
    converter = find_converter(format_name)
    if not isinstance(converter, Linter):
        raise ConversionError(f"nobody knows rules for {format_name} files: give an .onnx file")
    return converter


def calibration_samples(source: Source, calibration: Mapping[str, Array] | None, *, what: str) -> list[Array]:
    """The calibration arrays in the order of the inputs.

    `what` ("tflite int8") is for the message. Raises ConversionError when one is missing, DataError on a wrong shape,
    NaN or infinity.
    """
    given = calibration or {}
    missing = [name for name in source.signature_names() if not len(given.get(name, ()))]
    if missing:
        raise ConversionError(
            f"{what} of '{source.name}' needs calibration samples of '{missing[0]}', "
            "or a model trained with QuantizeAware: give calibration data"
        )
    for spec in source.inputs:
        spec.check(given[spec.name], where="calibration")
        check_finite(spec.name, given[spec.name], where="calibration")
    return [given[name] for name in source.signature_names()]


def check_precision(converter: Converter, precision: str) -> None:
    """Raise ConversionError when the converter does not make `precision`."""
    if precision not in converter.precisions:
        raise ConversionError(
            f"{converter.format} has no precision '{precision}'{did_you_mean(precision, converter.precisions)}"
        )


def find_installed(group: str, name: str) -> EntryPoint:
    """An entry point by its group and name. Raises ConversionError that lists what is installed."""
    installed = {point.name: point for point in entry_points(group=group)}
    if name not in installed:
        kind = group.split(".")[1].removesuffix("s")
        remedy = f': pip install "edgekit[{name}]"' if name in FORMATS else did_you_mean(name, FORMATS)
        raise ConversionError(f"no {kind} '{name}' (installed: {', '.join(sorted(installed)) or 'none'}){remedy}")
    return installed[name]
