"""What each layer of a converted file weighs, and what its precision costs there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.comparison import LayerComparison, LayerParity
from edgekit.comparison.model_file import ModelFile, compare_files
from edgekit.conversion import Layer, find_converter
from edgekit.errors import ConversionError, EdgekitError
from edgekit.layers import keras_layers
from edgekit.loading import FloatModel, LoadedModel
from edgekit.manifest import Binding
from edgekit.measuring import MeasuredVariant
from edgekit.progress import Progress
from edgekit.runtime.golden import GoldenVectors
from edgekit.tensors import Array, TensorSpec
from edgekit.tracing import INPUT_OPERATOR, short_name
from edgekit.tracing import keras_layers as keras_layers_of

REFERENCE = "fp32"
SAMPLES = 4  # of the golden inputs: every layer runs apart on each, and the model goes on from each
MOST_LAYERS = 250  # beyond, that takes minutes, since its time grows with the square of the layers
CULPRITS = 3
NEAR_DB = 60.0  # of the outputs, from which on a layer is no culprit: its error is a thousandth of them
BESIDE = "other operators"  # those that no layer's name leads to
_NAMELESS = "?"
_PRECISIONS = {"float32": "fp32", "float16": "fp16"}


@dataclass(frozen=True)
class LayerFigures:
    """One layer of one file. SNRs compare with the fp32 file of the same format; what was not measured is None."""

    name: str  # of the Keras layer, or of the module in a file that no Keras model stands behind
    operator: str  # the one with the most bytes, as the format calls it
    bytes: int  # of its constants
    precision: str  # of its weights, or of its output where it has none
    sparsity: float | None  # fraction of zero weights; None without weights
    snr_db: float | None = None  # of its output, with the errors of the layers before it
    introduced_db: float | None = None  # of its output, with its own error alone
    output_db: float | None = None  # of the model's outputs, with this layer's error alone
    culprit: int | None = None  # its place among those that bring the outputs below NEAR_DB, the worst is 1
    reason: str | None = None  # why a culprit loses accuracy


@dataclass(frozen=True)
class VariantLayers:
    """The layers of one variant, in the order in which they run."""

    variant: str
    layers: tuple[LayerFigures, ...]
    samples: int | None = None  # golden inputs that the SNRs were measured on
    note: str | None = None  # why there are none


def layer_figures(
    variants: Sequence[MeasuredVariant], golden: GoldenVectors, model: FloatModel, progress: Progress
) -> tuple[VariantLayers, ...]:
    """Look into every variant's file; those that have an fp32 file beside them are compared with it, layer by layer."""
    known = None
    if isinstance(model, LoadedModel):
        known = {layer.name: layer.bytes > 0 for layer in keras_layers(model.model)}
    inputs = _samples(golden, model)
    references = {item.variant.format: item for item in variants if item.variant.precision == REFERENCE}
    compared: dict[str, LayerComparison | str] = {}
    with progress.task("layers", len(variants)) as advance:
        for item in variants:
            compared[item.variant.id] = _compared(item, references.get(item.variant.format), model, inputs, known)
            advance(1, item.variant.id)
    leaders = _leaders({item.variant.id: item.variant.format for item in variants}, compared)
    return tuple(
        _of_variant(item, compared[item.variant.id], leaders.get(item.variant.format, {}), known) for item in variants
    )


def _samples(golden: GoldenVectors, model: FloatModel) -> dict[str, Array]:
    """The first golden inputs; of sequences, steps of all of them, as the files take them."""
    if golden.steps is None or not isinstance(model, LoadedModel):
        return {name: array[:SAMPLES] for name, array in golden.inputs.items()}
    steps = model.single_steps(golden.inputs)
    rows = np.linspace(0, len(next(iter(steps.values()))) - 1, SAMPLES).astype(int)
    return {name: array[rows] for name, array in steps.items()}


def _compared(
    item: MeasuredVariant,
    reference: MeasuredVariant | None,
    model: FloatModel,
    inputs: Mapping[str, Array],
    known: Mapping[str, bool] | None,
) -> LayerComparison | str:
    """The comparison, or why there is none."""
    if item is reference:
        return "the file that the others of its format are compared with"
    if reference is None:
        return f"no SNR by layer: the build has no {item.variant.format}-{REFERENCE} to compare with"
    if item.artifact.stand_in is not None:
        return "no SNR by layer: its engine shows nothing of what is inside"
    try:
        count = len(find_converter(item.variant.format).inspect(item.artifact.path).layers)
        if count > MOST_LAYERS:
            return (
                f"no SNR by layer: a build looks into files of up to {MOST_LAYERS} operators, and this one has "
                f"{count}; edgekit compare --layers takes its time"
            )
        return compare_files(_file(reference, model), _file(item, model), inputs, known_layers=known)
    except EdgekitError as problem:
        return f"no SNR by layer: {problem}"


def _file(item: MeasuredVariant, model: FloatModel) -> ModelFile:
    """A file with its states among its inputs and outputs."""
    variant = item.variant
    states = () if variant.state is None else variant.state.tensors
    return ModelFile(
        path=str(item.artifact.path),
        format=variant.format,
        engine=variant.engine,
        inputs=(*model.inputs, *(_spec(tensor.taken, tensor.shape) for tensor in states)),
        outputs=(*model.outputs, *(_spec(tensor.given, tensor.shape) for tensor in states)),
        input_bindings=(*variant.inputs, *(tensor.taken for tensor in states)),
        output_bindings=(*variant.outputs, *(tensor.given for tensor in states)),
    )


def _spec(binding: Binding, shape: tuple[int, ...]) -> TensorSpec:
    """A state as a caller sees it."""
    return TensorSpec(binding.name, (None, *shape[1:]), binding.dtype if binding.quantization is None else "float32")


def _leaders(formats: Mapping[str, str], compared: Mapping[str, LayerComparison | str]) -> dict[str, dict[str, str]]:
    """By format: Keras layer -> the layer whose row it belongs to, since a format may fuse an activation into it."""
    found: dict[str, dict[str, str]] = {}
    for variant, comparison in compared.items():
        if isinstance(comparison, LayerComparison):
            of_format = found.setdefault(formats[variant], {})
            for row in comparison.layers:
                for layer in row.keras_layers:
                    of_format.setdefault(layer, row.name)
    return found


def _of_variant(
    item: MeasuredVariant,
    compared: LayerComparison | str,
    leaders: Mapping[str, str],
    known: Mapping[str, bool] | None,
) -> VariantLayers:
    variant = item.variant.id
    try:
        found = find_converter(item.artifact.format).inspect(item.artifact.path)
    except ConversionError as problem:
        return VariantLayers(variant, (), note=f"no figures by layer: {problem}")
    weighed = _grouped(found.layers, leaders, known)
    if isinstance(compared, str):
        return VariantLayers(variant, weighed, note=compared)
    names = {layer.name for layer in weighed}
    entries = [
        _entry(row, found.inputs[0].dtype)
        for row in compared.layers
        if row.operator == INPUT_OPERATOR and row.name not in names
    ]
    return VariantLayers(variant, _with_parity([*entries, *weighed], compared), samples=compared.samples)


def _entry(row: LayerParity, dtype: str) -> LayerFigures:
    """An input of the model, which costs accuracy by the rounding of its values."""
    return LayerFigures(row.name, INPUT_OPERATOR, 0, _PRECISIONS.get(dtype, dtype), None)


def _grouped(
    operators: Iterable[Layer], leaders: Mapping[str, str], known: Mapping[str, bool] | None
) -> tuple[LayerFigures, ...]:
    groups: dict[str, list[Layer]] = {}
    for operator in operators:
        owner = _owner(operator.name, known)
        groups.setdefault(leaders.get(owner, owner), []).append(operator)
    beside = groups.pop(BESIDE, [])
    if any(operator.bytes for operator in beside):
        groups[BESIDE] = beside
    return tuple(_sum(name, members) for name, members in groups.items())


def _owner(name: str, known: Mapping[str, bool] | None) -> str:
    if known is not None:
        return next(iter(keras_layers_of((name,), known)), BESIDE)
    short = short_name((name,))
    return BESIDE if short == _NAMELESS else short


def _sum(name: str, members: Sequence[Layer]) -> LayerFigures:
    weighted = [member for member in members if member.sparsity is not None]
    leading = max(weighted or members, key=lambda member: member.bytes)
    return LayerFigures(
        name=name,
        operator=leading.type,
        bytes=sum(member.bytes for member in members),
        precision=leading.precision,
        sparsity=leading.sparsity,
    )


def _with_parity(layers: Iterable[LayerFigures], compared: LayerComparison) -> tuple[LayerFigures, ...]:
    rows: dict[str, LayerParity] = {}
    for row in compared.layers:  # of several under one name, the last is the layer's output
        rows[row.name] = row
    costly = [row for row in compared.culprits(CULPRITS) if row.output_db is not None and row.output_db < NEAR_DB]
    places = {row.tensor: place for place, row in enumerate(costly, start=1)}
    return tuple(_joined(layer, rows.get(layer.name), places) for layer in layers)


def _joined(layer: LayerFigures, row: LayerParity | None, places: Mapping[str, int]) -> LayerFigures:
    if row is None:
        return layer
    place = places.get(row.tensor)
    return LayerFigures(
        layer.name, layer.operator, layer.bytes, layer.precision, layer.sparsity,
        row.snr_db, row.introduced_db, row.output_db, place, row.reason if place else None,
    )  # fmt: skip
