"""TensorFlow Lite's metadata as a FlatBuffer, written from a ModelMetadata and read back.

Source: metadata_schema.fbs of tensorflow/tflite-support, identifier "M001". The numbers below are the fields of its
tables in the order of that file. Of the schema's versions, the first ("1.0.0") has all that is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path

from edgekit.errors import ConversionError
from edgekit.metadata import Image, ModelMetadata, TensorMetadata
from edgekit_tflite.flat import Byte, Fields, Table, UInt, write_table
from edgekit_tflite.reading import damage_of

IDENTIFIER = b"M001"
PARSER_VERSION = "1.0.0"

_COLORS = ("UNKNOWN", "RGB", "GRAYSCALE")  # ColorSpaceType
_CONTENTS = ("none", "feature", "image", "bounding-box")  # union ContentProperties
_NORMALIZATION = 1  # in union ProcessUnitOptions
_AXIS_LABELS = 2  # AssociatedFileType.TENSOR_AXIS_LABELS


class _Model:
    NAME, DESCRIPTION, VERSION, SUBGRAPHS, AUTHOR, LICENSE, FILES, PARSER = range(8)


class _Graph:
    NAME, DESCRIPTION, INPUTS, OUTPUTS = range(4)


class _Tensor:
    NAME, DESCRIPTION, DIMENSIONS, CONTENT, UNITS, STATISTICS, FILES = range(7)


class _Content:
    TYPE, PROPERTIES = range(2)


class _Image:
    COLOR, SIZE = range(2)


class _Size:
    WIDTH, HEIGHT = range(2)


class _Unit:
    TYPE, OPTIONS = range(2)


class _Normalization:
    MEAN, STD = range(2)


class _Statistics:
    LARGEST, LEAST = range(2)


class _File:
    NAME, DESCRIPTION, TYPE = range(3)


def label_files(metadata: ModelMetadata) -> dict[str, bytes]:
    """Name -> content of the associated files, in the order of the outputs that they belong to."""
    files = {}
    for tensor in metadata.outputs:
        if tensor.labels is not None:
            files[_label_file(metadata, tensor)] = "".join(f"{label}\n" for label in tensor.labels).encode()
    return files


def to_flatbuffer(metadata: ModelMetadata) -> bytes:
    """The table `ModelMetadata`; inputs and outputs must be in the order of the file's first subgraph."""
    import flatbuffers

    graph: Fields = {
        _Graph.INPUTS: [_tensor(tensor, None) for tensor in metadata.inputs],
        _Graph.OUTPUTS: [
            _tensor(tensor, None if tensor.labels is None else _label_file(metadata, tensor))
            for tensor in metadata.outputs
        ],
    }
    builder = flatbuffers.Builder(1 << 10)
    root = write_table(
        builder,
        {
            _Model.NAME: metadata.name,
            _Model.DESCRIPTION: metadata.description,
            _Model.VERSION: metadata.version,
            _Model.SUBGRAPHS: [graph],
            _Model.AUTHOR: metadata.author,
            _Model.LICENSE: metadata.license,
            _Model.PARSER: PARSER_VERSION,
        },
    )
    builder.Finish(root, IDENTIFIER)
    return bytes(builder.Output())


def from_flatbuffer(content: bytes, files: Callable[[str], bytes], *, where: Path) -> ModelMetadata:
    """Read what `to_flatbuffer` writes, and as much of others' metadata; `files` gives an associated file's content.

    Raises ConversionError on what is no metadata, or another version of it.
    """
    if content[4:8] != IDENTIFIER:
        raise ConversionError(f"{where}: its metadata begins with {content[4:8]!r}, expected {IDENTIFIER!r}")
    with damage_of(f"{where}: its metadata"):
        return _read_model(Table.root(content), files)


def _label_file(metadata: ModelMetadata, tensor: TensorMetadata) -> str:
    """The name that apps look for, where there is one such file alone."""
    alone = sum(output.labels is not None for output in metadata.outputs) == 1
    return "labels.txt" if alone else f"labels_{tensor.name}.txt"


def _tensor(tensor: TensorMetadata, labels: str | None) -> Fields:
    statistics: Fields = {_Statistics.LARGEST: tensor.largest, _Statistics.LEAST: tensor.least}
    file: Fields = {_File.NAME: labels, _File.DESCRIPTION: "One name a line.", _File.TYPE: Byte(_AXIS_LABELS)}
    return {
        _Tensor.NAME: tensor.name,
        _Tensor.DESCRIPTION: tensor.description,
        _Tensor.DIMENSIONS: tensor.dimension_names,
        _Tensor.CONTENT: _content(tensor.image),
        _Tensor.UNITS: None if tensor.mean is None or tensor.std is None else [_unit(tensor.mean, tensor.std)],
        _Tensor.STATISTICS: None if tensor.least is None else statistics,
        _Tensor.FILES: None if labels is None else [file],
    }


def _content(image: Image | None) -> Fields:
    if image is None:
        return {_Content.TYPE: Byte(_CONTENTS.index("feature")), _Content.PROPERTIES: {}}
    size: Fields | None = None
    if image.size is not None:
        size = {_Size.WIDTH: UInt(image.size[1]), _Size.HEIGHT: UInt(image.size[0])}
    properties: Fields = {_Image.COLOR: Byte(_COLORS.index(image.color)), _Image.SIZE: size}
    return {_Content.TYPE: Byte(_CONTENTS.index("image")), _Content.PROPERTIES: properties}


def _unit(mean: Sequence[float], std: Sequence[float]) -> Fields:
    options: Fields = {_Normalization.MEAN: tuple(mean), _Normalization.STD: tuple(std)}
    return {_Unit.TYPE: Byte(_NORMALIZATION), _Unit.OPTIONS: options}


def _read_model(model: Table, files: Callable[[str], bytes]) -> ModelMetadata:
    graphs = model.tables(_Model.SUBGRAPHS)
    return ModelMetadata(
        name=model.text(_Model.NAME),
        version=model.text(_Model.VERSION),
        description=model.text(_Model.DESCRIPTION),
        author=model.text(_Model.AUTHOR),
        license=model.text(_Model.LICENSE),
        inputs=tuple(_read_tensor(tensor, files) for graph in graphs[:1] for tensor in graph.tables(_Graph.INPUTS)),
        outputs=tuple(_read_tensor(tensor, files) for graph in graphs[:1] for tensor in graph.tables(_Graph.OUTPUTS)),
    )


def _read_tensor(tensor: Table, files: Callable[[str], bytes]) -> TensorMetadata:
    content, statistics = tensor.table(_Tensor.CONTENT), tensor.table(_Tensor.STATISTICS)
    units = [unit.table(_Unit.OPTIONS) for unit in tensor.tables(_Tensor.UNITS) if _is_normalization(unit)]
    normalization = units[0] if units else None
    kind = None if content is None else _CONTENTS[content.number(_Content.TYPE, "Uint8")]
    return TensorMetadata(
        name=tensor.text(_Tensor.NAME),
        description=tensor.text(_Tensor.DESCRIPTION),
        content=kind,
        image=_read_image(content.table(_Content.PROPERTIES)) if content is not None and kind == "image" else None,
        dimension_names=tensor.texts(_Tensor.DIMENSIONS),
        mean=_floats(normalization, _Normalization.MEAN),
        std=_floats(normalization, _Normalization.STD),
        least=_floats(statistics, _Statistics.LEAST),
        largest=_floats(statistics, _Statistics.LARGEST),
        labels=_read_labels(tensor.tables(_Tensor.FILES), files),
    )


def _floats(table: Table | None, number: int) -> tuple[float, ...] | None:
    values = None if table is None else table.floats(number)
    if values is not None and not all(map(isfinite, values)):
        raise ValueError(f"a number in it is {next(value for value in values if not isfinite(value))}")
    return values


def _is_normalization(unit: Table) -> bool:
    return unit.number(_Unit.TYPE, "Uint8") == _NORMALIZATION


def _read_image(image: Table | None) -> Image | None:
    if image is None:
        return None
    size = image.table(_Image.SIZE)
    return Image(
        color=_COLORS[image.number(_Image.COLOR, "Uint8")],
        size=None if size is None else (size.number(_Size.HEIGHT), size.number(_Size.WIDTH)),
    )


def _read_labels(associated: Sequence[Table], files: Callable[[str], bytes]) -> tuple[str, ...] | None:
    """The first label file of a tensor, which readers take by default."""
    for file in associated:
        if file.number(_File.TYPE, "Uint8") == _AXIS_LABELS:
            return tuple(files(file.text(_File.NAME) or "").decode().splitlines())
    return None
