"""The two sides of `edgekit compare`: whatever a model comes as, opened so that it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.comparison.model_file import ModelFile, describe, run_file
from edgekit.conversion import GivenConverter, Source, find_converter
from edgekit.errors import BundleError, ConfigError, ModelError
from edgekit.exporting import export_source
from edgekit.given import converted_source
from edgekit.inspection import FORMAT_OF_SUFFIX
from edgekit.lengths import Lengths
from edgekit.loading import LoadedModel, load
from edgekit.states import NOT_COMPARED, check_stateless
from edgekit.tensors import Array, TensorSpec

BUNDLE_SUFFIX = ".edgekit"
VARIANT_MARK = "#"  # bundle.edgekit#variant-id


@dataclass(frozen=True)
class Side:
    """One of the two: a Keras model, or a converted file."""

    label: str  # as the user wrote it
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    runs: LoadedModel | ModelFile

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name; arrays have shape (n, ...)."""
        if isinstance(self.runs, ModelFile):
            return run_file(self.runs, inputs, label=self.label)
        return self.runs.predict(inputs)


class Sides:
    """A reference and what is compared with it, with a scratch folder for their files."""

    def __init__(
        self, reference: str, other: str, work: Path, *, architecture: str | None, allow_code: bool,
        lengths: Lengths | None = None,
    ) -> None:  # fmt: skip
        """Open both. Raises ConfigError where they are no two of one model, ModelError, BundleError."""
        self.work = work
        load_model = partial(load, architecture=architecture, allow_code=allow_code, lengths=lengths)
        self.first = _open(reference, work / "reference", load_model)
        self.second = _open(other, work / "other", load_model)
        _check_names(self.first, self.second)

    def looked_into(self) -> ModelFile:
        """The second side, as a converted file. Raises ConfigError when it is none, or not in the first's format."""
        first, second = self.first, self.second
        if not isinstance(second.runs, ModelFile):
            raise ConfigError(
                f"{second.label} is a Keras model: --layers looks into a converted file; give the Keras model first "
                "and a .tflite or .onnx file second"
            )
        if isinstance(first.runs, ModelFile) and first.runs.format != second.runs.format:
            raise ConfigError(
                f"{first.label} is {first.runs.format}, {second.label} is {second.runs.format}: --layers compares "
                f"files of one format; give the Keras model or its fp32 {second.runs.format} file first"
            )
        return second.runs

    @cached_property
    def source(self) -> Source:
        """The first side on its way to the converter of the second: one export, whatever is made of it."""
        work = self.work / "source"
        work.mkdir()
        if isinstance(self.first.runs, ModelFile):
            return converted_source(Path(self.first.runs.path), find_converter(self.looked_into().format), work)
        return export_source(self.first.runs, work)

    @cached_property
    def float_file(self) -> ModelFile:
        """The first side at fp32 in the format of the second."""
        if isinstance(self.first.runs, ModelFile):
            return self.first.runs
        converter = find_converter(self.looked_into().format)
        path = self.work / f"reference{converter.suffix}"
        converter.convert(self.source, precision="fp32", calibration=None, output=path)
        return describe(path, converter.format)


def named(arrays: Mapping[str, Array], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """A single array under the only name; several have the names already."""
    return dict(arrays) if len(arrays) > 1 else dict(zip((spec.name for spec in specs), arrays.values(), strict=True))


def _open(side: str, work: Path, load_model: Callable[[Path], LoadedModel]) -> Side:
    work.mkdir()
    name, mark, variant = side.rpartition(VARIANT_MARK)
    if mark and name.endswith(BUNDLE_SUFFIX):
        return _from_bundle(side, Path(name), variant, work)
    path = Path(side)
    if path.suffix == BUNDLE_SUFFIX:
        raise BundleError(_which_variant(path))
    if not path.exists():
        raise ModelError(f"no file {path}")
    if path.suffix in FORMAT_OF_SUFFIX:
        file = describe(_in_order(path, work), FORMAT_OF_SUFFIX[path.suffix])
        return Side(side, file.inputs, file.outputs, file)
    model = load_model(path)
    check_stateless(model.model, NOT_COMPARED)
    return Side(side, model.inputs, model.outputs, model)


def _in_order(path: Path, work: Path) -> Path:
    """One file that holds all of its weights, as engines read it."""
    converter = find_converter(FORMAT_OF_SUFFIX[path.suffix])
    if not isinstance(converter, GivenConverter):
        return path
    converter.prepare(path, work / path.name, shapes={})
    return work / path.name


def _which_variant(path: Path) -> str:
    with Bundle.open(path) as bundle:
        ids = [variant.id for variant in bundle.manifest.variants]
    return f"{path} holds {len(ids)} variants ({', '.join(ids)}): name one, like {path}{VARIANT_MARK}{ids[0]}"


def _from_bundle(side: str, path: Path, variant_id: str, work: Path) -> Side:
    with Bundle.open(path) as bundle:
        variant, manifest = bundle.variant(variant_id), bundle.manifest
        if variant.state is not None:
            raise ModelError(f"{side} keeps state from call to call, and {NOT_COMPARED}")
        member = work / Path(variant.member.path).name
        member.write_bytes(bundle.read(variant.member.path))
    inputs = tuple(item.spec for item in manifest.inputs)
    file = ModelFile(
        path=str(member),
        format=variant.format,
        engine=variant.engine,
        inputs=inputs,
        outputs=manifest.outputs,
        input_bindings=variant.inputs,
        output_bindings=variant.outputs,
    )
    return Side(side, inputs, manifest.outputs, file)


def _check_names(first: Side, second: Side) -> None:
    """Raise ConfigError where the two differ in the names of their inputs or outputs; a single one may."""
    borders = (("inputs", first.inputs, second.inputs), ("outputs", first.outputs, second.outputs))
    for what, wanted, found in borders:
        names, others = ([spec.name for spec in specs] for specs in (wanted, found))
        if set(names) != set(others) and not len(names) == len(others) == 1:
            raise ConfigError(
                f"{second.label} has the {what} {', '.join(others)}, {first.label} has {', '.join(names)}: "
                "give two files of one model"
            )
