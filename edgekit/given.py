"""Files that are no Keras model, on their way to a converter, and what a build needs of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit import workers
from edgekit.comparison.model_file import ModelFile, run_file
from edgekit.conversion import Converter, GivenConverter, Source, find_converter
from edgekit.errors import ConfigError, ConversionError, ModelError
from edgekit.files import sha256_file
from edgekit.inspection import FORMAT_OF_SUFFIX
from edgekit.lengths import Lengths, parse_lengths, way_out
from edgekit.opening_files import ENVIRONMENT, TIMEOUT_S
from edgekit.tensors import Array, TensorSpec, class_count

BUILT = ".onnx"  # the suffix of converted files that a build can begin from

_NO_KERAS = "post-training only: no Keras model stands behind it, so nothing of it was trained or compressed"


def engine_source(path: Path, work: Path, *, precision: str | None) -> Source:
    """An ONNX file for a converter that builds engines: as it is, or to be quantized first.

    It stays as it is where `precision`, None for the file's own, stands in its graph. Raises ConversionError.
    """
    onnx: Converter = find_converter("onnx")
    found = onnx.inspect(path)
    if precision not in (None, found.precision):
        return converted_source(path, onnx, work)
    return Source(path.stem, found.inputs, found.outputs, path, None, work)


@dataclass(frozen=True)
class GivenModel:
    """A float file that no Keras model stands behind, run by its own engine in processes of their own."""

    path: Path  # as the user gave it
    source: Source
    file: ModelFile  # the same, put in order
    parameters: int
    origin: None = None
    sparsity: None = None  # compression left nothing to tell
    stateful: bool = False  # nobody says which inputs are states

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """By the names in the file; the batch is None."""
        return self.source.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """By the names in the file; the batch is None."""
        return self.source.outputs

    @property
    def classes(self) -> int | None:
        """Number of class scores that the only output holds; None when it holds none."""
        return class_count(self.outputs)

    @property
    def note(self) -> str:
        """What the report says of it."""
        changes = "".join(f"; {change}" for change in self.source.notes)
        return f"{self.path.name}: {_NO_KERAS}{changes}"

    def predict(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name; arrays have shape (n, ...). Raises EngineError."""
        return run_file(self.file, columns, label=self.path.name)

    def sha256(self) -> str:
        """Hex sha256 of the file, with the weights that lay beside it in it."""
        return sha256_file(self.source.float_model)


def given_format(model: object) -> str | None:
    """The format of a file that a build begins from without Keras; None for what may hold a Keras model."""
    found = isinstance(model, str | Path) and Path(model).suffix == BUILT
    return FORMAT_OF_SUFFIX[BUILT] if found else None


def given_model(path: Path, converter: Converter, work: Path, *, lengths: Lengths | None = None) -> GivenModel:
    """Open a float file to build from. Raises as `converted_source`, and ConversionError for a fixed larger batch."""
    source = converted_source(path, converter, work, lengths=lengths)
    if source.batch != 1:
        raise ConversionError(
            f"{path.name} takes batches of {source.batch} alone, and a bundle is called with any number of samples: "
            "export it with an open batch, or with a batch of 1"
        )
    float_file = work / f"float{converter.suffix}"
    artifact = converter.convert(source, precision="fp32", calibration=None, output=float_file)
    if artifact.no_bundle is not None:
        raise ConversionError(f"{path.name}: {artifact.no_bundle}")
    file = ModelFile(
        path=str(float_file),
        format=artifact.format,
        engine=artifact.engine,
        inputs=source.inputs,
        outputs=source.outputs,
        input_bindings=artifact.inputs,
        output_bindings=artifact.outputs,
    )
    return GivenModel(path, source, file, converter.inspect(float_file).parameters)


def converted_source(path: Path, converter: Converter, work: Path, *, lengths: Lengths | None = None) -> Source:
    """A float file of the converter's own format, to be quantized. Its layers are known by the names in the file.

    `lengths` fix what its inputs leave open beside the batch, in a format that can; of several, the first. Raises
    ConversionError for another format, for a file that does not open, and for one whose inputs hold no batch;
    ConfigError for lengths that do not fit.
    """
    if path.suffix != converter.suffix:
        raise ConversionError(
            f"{path.name} cannot become {converter.format}: a file that is converted already is only quantized in its "
            "own format; give the Keras model or the SavedModel"
        )
    if isinstance(converter, GivenConverter):
        return _prepared(path, converter, work, lengths or {})
    if lengths:
        raise ConfigError(f"--length is for a Keras model, and {path.name} holds none: leave it out")
    found = converter.inspect(path)
    for spec in found.inputs:
        if spec.shape[:1] != (1,):
            raise ConversionError(f"{path.name}: input {spec}, expected batch 1: export it with a batch of 1")
    return Source(path.stem, _any_batch(found.inputs), _any_batch(found.outputs), path, None, work)


def _prepared(path: Path, converter: GivenConverter, work: Path, lengths: Lengths) -> Source:
    """A source whose file lies in `work`, as the converter put it in order."""
    file = work / f"given{converter.suffix}"
    notes = converter.prepare(path, file, shapes={})
    found = converter.inspect(file)
    chosen = parse_lengths(found.inputs, lengths)
    if chosen:
        fixed = work / f"given-fixed{converter.suffix}"
        notes = (*notes, *converter.prepare(file, fixed, shapes=chosen[0].shapes))
        file, found = fixed, converter.inspect(fixed)
    batch = _batch(found.inputs, path)
    for spec in found.outputs:
        if not spec.shape:
            raise ConversionError(
                f"{path.name}: output {spec} has no dimension for the batch, or no known shape: export it with one"
            )
    inputs, outputs = _any_batch(found.inputs), _any_batch(found.outputs)
    others = tuple(shapes.name for shapes in chosen[1:])
    return Source(path.stem, inputs, outputs, file, None, work, other_signatures=others, batch=batch, notes=notes)


def _batch(inputs: Sequence[TensorSpec], path: Path) -> int:
    """How many samples a call takes; 1 for any number. Raises ConversionError for inputs that nobody could feed."""
    if not inputs:
        raise ConversionError(f"{path.name} has no inputs: there is nothing to convert it for")
    for spec in inputs:
        if not spec.shape:
            raise ConversionError(
                f"{path.name}: input {spec} has no dimension for the batch, or no known shape: export it with one"
            )
        if None in spec.shape[1:]:
            raise ConversionError(
                f"{path.name}: input {spec} leaves more open than the batch: {way_out(spec.name, spec.shape)}"
            )
    sizes = sorted({spec.shape[0] for spec in inputs if spec.shape[0] is not None})
    if len(sizes) > 1:
        found = ", ".join(map(str, inputs))
        raise ConversionError(f"{path.name}: its inputs have several batches ({found}): export it with one batch")
    return sizes[0] if sizes else 1


def saved_model_source(path: Path, work: Path, *, allow_code: bool, signatures: Sequence[str] = ()) -> Source:
    """A SavedModel that no Keras model stands behind. Its layers are known by the names in the converted file.

    `signatures` are the names of those to convert; formats that have but one take the first. Raises ModelError for one
    that can touch files or run Python unless `allow_code`, without a signature to choose, and for shapes that are open
    beyond the batch.
    """
    folder = work / "float-saved-model"
    reply = workers.call(
        "edgekit.saved_model_worker",
        {"path": str(path), "output": str(folder), "allow_code": allow_code, "signatures": signatures},
        timeout_s=TIMEOUT_S,
        what=f"opening {path}",
        error=ModelError,
        environment=ENVIRONMENT,
    )
    inputs, outputs = (
        tuple(TensorSpec(name, (None, *shape), dtype) for name, shape, dtype in reply[role])
        for role in ("inputs", "outputs")
    )
    first, *others = reply["signatures"]
    return Source(path.name, inputs, outputs, folder, None, work, signature=first, other_signatures=tuple(others))


def _any_batch(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, shape=(None, *spec.shape[1:])) for spec in specs)
