"""`edgekit compare`: two runs of one model, whatever they come as, on the same data."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.comparison import LayerComparison, Parity, compare_outputs
from edgekit.comparison.model_file import ModelFile, compare_files, describe, run_file
from edgekit.conversion import find_converter
from edgekit.data import DataSource, load_data
from edgekit.errors import BundleError, ConfigError, ModelError
from edgekit.exporting import export_source
from edgekit.inspection import FORMAT_OF_SUFFIX
from edgekit.layers import keras_layers
from edgekit.loading import LoadedModel, load
from edgekit.progress import Progress
from edgekit.tensors import Array, TensorSpec

DEFAULT_SAMPLES = 64
BUNDLE_SUFFIX = ".edgekit"
VARIANT_MARK = "#"  # bundle.edgekit#variant-id


@dataclass(frozen=True)
class Comparison:
    """What two runs of a model have in common."""

    samples: int
    outputs: Parity
    layers: LayerComparison | None  # None when it was not asked for


@dataclass(frozen=True)
class _Side:
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


def compare(
    reference: str | Path,
    other: str | Path,
    data: DataSource,
    *,
    progress: Progress,
    samples: int = DEFAULT_SAMPLES,
    layers: bool = False,
    architecture: str | None = None,
    allow_code: bool = False,
) -> Comparison:
    """Compare `other` with `reference` on `samples` rows spread over the data.

    Each is a Keras model, a .tflite or .onnx file, or `bundle.edgekit#variant-id`. With `layers`, `other` is a
    converted file, and `reference` a float file of the same format or a Keras model, which is converted to that
    format at fp32. Raises ConfigError, DataError, ModelError, BundleError, ConversionError and EngineError.
    """
    if samples < 1:
        raise ConfigError(f"samples is {samples}, expected at least 1")
    with tempfile.TemporaryDirectory(prefix="edgekit-compare-") as folder, progress.task("compare", 3) as advance:
        work = Path(folder)
        first = _open(str(reference), work / "reference", architecture=architecture, allow_code=allow_code)
        second = _open(str(other), work / "other", architecture=architecture, allow_code=allow_code)
        _check_names(first, second)
        if layers:
            _check_layered(first, second)
        rows = load_data(data, first.inputs, where="data", any_labels=True).spread(samples)
        advance(1, "opened")
        outputs = _named(second.predict(_named(rows.inputs, second.inputs)), first.outputs)
        parity = compare_outputs(first.predict(rows.inputs), outputs)
        advance(1, "outputs compared")
        found = _compare_layers(first, second, rows.inputs, work) if layers else None
        advance(1, "")
    return Comparison(len(rows), parity, found)


def _open(side: str, work: Path, *, architecture: str | None, allow_code: bool) -> _Side:
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
        file = describe(path, FORMAT_OF_SUFFIX[path.suffix])
        return _Side(side, file.inputs, file.outputs, file)
    model = load(path, architecture=architecture, allow_code=allow_code)
    return _Side(side, model.inputs, model.outputs, model)


def _which_variant(path: Path) -> str:
    with Bundle.open(path) as bundle:
        ids = [variant.id for variant in bundle.manifest.variants]
    return f"{path} holds {len(ids)} variants ({', '.join(ids)}): name one, like {path}{VARIANT_MARK}{ids[0]}"


def _from_bundle(side: str, path: Path, variant_id: str, work: Path) -> _Side:
    with Bundle.open(path) as bundle:
        variant, manifest = bundle.variant(variant_id), bundle.manifest
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
    return _Side(side, inputs, manifest.outputs, file)


def _check_names(first: _Side, second: _Side) -> None:
    """Raise ConfigError where the two differ in the names of their inputs or outputs; a single one may."""
    borders = (("inputs", first.inputs, second.inputs), ("outputs", first.outputs, second.outputs))
    for what, wanted, found in borders:
        names, others = ([spec.name for spec in specs] for specs in (wanted, found))
        if set(names) != set(others) and not len(names) == len(others) == 1:
            raise ConfigError(
                f"{second.label} has the {what} {', '.join(others)}, {first.label} has {', '.join(names)}: "
                "give two files of one model"
            )


def _named(arrays: Mapping[str, Array], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """A single array under the only name; several have the names already."""
    return dict(arrays) if len(arrays) > 1 else dict(zip((spec.name for spec in specs), arrays.values(), strict=True))


def _check_layered(first: _Side, second: _Side) -> None:
    if not isinstance(second.runs, ModelFile):
        raise ConfigError(
            f"{second.label} is a Keras model: --layers looks into a converted file; give the Keras model first and "
            "a .tflite or .onnx file second"
        )
    if isinstance(first.runs, ModelFile) and first.runs.format != second.runs.format:
        raise ConfigError(
            f"{first.label} is {first.runs.format}, {second.label} is {second.runs.format}: --layers compares files "
            f"of one format; give the Keras model or its fp32 {second.runs.format} file first"
        )


def _compare_layers(first: _Side, second: _Side, inputs: Mapping[str, Array], work: Path) -> LayerComparison:
    assert isinstance(second.runs, ModelFile)
    given = {**_named(inputs, first.inputs), **_named(inputs, second.inputs)}
    if isinstance(first.runs, ModelFile):
        return compare_files(first.runs, second.runs, given, known_layers=None)
    known = {layer.name: layer.bytes > 0 for layer in keras_layers(first.runs.model)}
    return compare_files(_converted(first.runs, second.runs.format, work), second.runs, given, known_layers=known)


def _converted(model: LoadedModel, format_name: str, work: Path) -> ModelFile:
    """The model at fp32 in the format of what it is compared with."""
    converter = find_converter(format_name)
    source = export_source(model, work)
    path = work / f"reference{converter.suffix}"
    converter.convert(source, precision="fp32", calibration=None, output=path)
    return describe(path, format_name)
