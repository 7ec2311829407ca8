"""Metadata read back by field numbers and zipfile, apart from the code that wrote it."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from edgekit_tflite import converter
from edgekit_tflite.embedding import Embedded, embed, read_embedded
from edgekit_tflite.metadata import from_flatbuffer, to_flatbuffer

from edgekit.conversion import Source
from edgekit.errors import ConversionError
from edgekit.metadata import Image, ModelMetadata, TensorMetadata
from tests.converters import tflite_files as files
from tests.tiny_models import IMAGES, INPUTS, OUTPUTS, float_tflite, int8_tflite

LABELS = ("circle", "square", "Dreieck größer")
TAKES = TensorMetadata(
    "image", "Four numbers.", "feature", None, ("batch", "pixel"), (0.5,), (0.25,), (-1.0,), (1.5,), None
)
GIVES = TensorMetadata("scores", content="feature", labels=LABELS)
CARD = ModelMetadata("tiny", "1.0.0", "Tells shapes.", "its maker", "MIT", (TAKES,), (GIVES,))
MODELS = {"fp32": float_tflite, "int8": int8_tflite}
BYTE = flatbuffers.number_types.Uint8Flags


def invoke(content: bytes) -> np.ndarray:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(takes["index"], (100 * IMAGES[:1]).astype(takes["dtype"]))
    interpreter.invoke()
    return np.array(interpreter.get_tensor(gives["index"]))


def with_constants_outside(content: bytes, rows: dict[str, bytes] | None = None) -> bytes:
    """The file with its constants behind the FlatBuffer, and with rows of metadata in a file of their own."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.metadata = []
    for name, stored in (rows or {}).items():
        row, buffer = schema.MetadataT(), schema.BufferT()
        row.name, row.buffer, buffer.data = name, len(model.buffers), np.frombuffer(stored, np.uint8)
        model.metadata.append(row)
        model.buffers.append(buffer)
    outside = model.buffers[1:3]
    constants = [bytes(buffer.data) for buffer in outside]
    end = 4096
    for buffer, constant in zip(outside, constants, strict=True):
        buffer.data, buffer.offset, buffer.size = None, end, len(constant)
        end += 16 * -(-len(constant) // 16)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    packed = bytes(builder.Output()).ljust(4096, b"\0")
    return packed + b"".join(constant.ljust(16 * -(-len(constant) // 16), b"\0") for constant in constants)


@pytest.mark.parametrize("precision", MODELS)
def test_outputs_and_constants_are_as_before_and_aligned(precision: str) -> None:
    before = MODELS[precision]()
    after = embed(before, CARD, where="x")
    assert before in after
    np.testing.assert_array_equal(invoke(after), invoke(before))
    old, new = files.buffers(before), files.buffers(after)
    assert [stored for _, stored in new[:-1]] == [stored for _, stored in old]
    assert [(place - earlier) % 64 for (place, _), (earlier, stored) in zip(new, old, strict=False) if stored] == [0, 0]
    assert new[-1][0] % 16 == 0


def test_fields_stand_under_the_numbers_of_the_schema() -> None:
    stored = files.metadata_rows(embed(float_tflite(), CARD, where="x"))["TFLITE_METADATA"]
    assert stored[4:8] == b"M001"
    model = files.root(stored)
    assert [files.text(model, number) for number in (0, 1, 2, 4, 5, 7)] == [
        "tiny", "Tells shapes.", "1.0.0", "its maker", "MIT", "1.0.0",
    ]  # fmt: skip
    (graph,) = files.children(model, 3)
    (image,), (scores,) = files.children(graph, 2), files.children(graph, 3)
    assert (files.text(image, 0), files.text(image, 1), files.text(scores, 0)) == ("image", "Four numbers.", "scores")
    assert files.number(files.child(image, 3), 0, BYTE) == 1  # FeatureProperties
    (unit,) = files.children(image, 4)
    options = files.child(unit, 1)
    assert (files.number(unit, 0, BYTE), files.floats(options, 0), files.floats(options, 1)) == (1, [0.5], [0.25])
    statistics = files.child(image, 5)
    assert (files.floats(statistics, 0), files.floats(statistics, 1)) == ([1.5], [-1.0])
    (labels,) = files.children(scores, 6)
    assert (files.text(labels, 0), files.number(labels, 2, BYTE)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


def test_an_image_has_its_color_and_size() -> None:
    card = replace(CARD, inputs=(replace(TAKES, content="image", image=Image("RGB", (224, 320))),))
    (graph,) = files.children(files.root(to_flatbuffer(card)), 3)
    content = files.child(files.children(graph, 2)[0], 3)
    properties = files.child(content, 1)
    size = files.child(properties, 1)
    assert (files.number(content, 0, BYTE), files.number(properties, 0, BYTE)) == (2, 1)
    assert (files.number(size, 0), files.number(size, 1)) == (320, 224)  # width, height


def test_labels_are_a_stored_zip_entry_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(embed(int8_tflite(), CARD, where="x"))
    with zipfile.ZipFile(path) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert archive.read(entry).decode() == "circle\nsquare\nDreieck größer\n"
    assert embed(int8_tflite(), CARD, where="x") == path.read_bytes()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    several = replace(CARD, outputs=(GIVES, TensorMetadata("boxes", content="feature", labels=("x", "y"))))
    image = replace(CARD, author=None, inputs=(replace(TAKES, content="image", image=Image("GRAYSCALE", None)),))
    for card in (CARD, several, image):
        path = tmp_path / "x.tflite"
        path.write_bytes(embed(float_tflite(), card, where="x"))
        assert read_embedded(path).metadata == card
    with zipfile.ZipFile(tmp_path / "x.tflite") as archive:
        assert archive.namelist() == ["labels.txt"]


def test_a_file_without_labels_has_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(embed(float_tflite(), replace(CARD, outputs=(TensorMetadata("scores"),)), where="x"))
    assert not zipfile.is_zipfile(path)


def test_constants_behind_the_flatbuffer_and_other_metadata_survive(tmp_path: Path) -> None:
    before = with_constants_outside(float_tflite(), {"min_runtime_version": b"2.3.0".ljust(16, b"\0"), "other": b"abc"})
    after = embed(before, CARD, where="x")
    np.testing.assert_array_equal(invoke(after), invoke(float_tflite()))
    rows = files.metadata_rows(after)
    assert set(rows) == {"min_runtime_version", "other", "TFLITE_METADATA"}
    assert rows["other"] == b"abc"
    path = tmp_path / "x.tflite"
    path.write_bytes(after)
    assert read_embedded(path) == Embedded(CARD, "2.3.0")
    assert converter.inspect(path).parameters == 15


def test_the_converter_embeds_in_the_order_of_the_file(tmp_path: Path) -> None:
    model = tmp_path / "int8.tflite"
    model.write_bytes(int8_tflite())
    inputs = (replace(INPUTS[0].spec, name="serving_image"),)
    outputs = (replace(OUTPUTS[0], name="serving_scores"),)
    named = replace(
        CARD, inputs=(replace(TAKES, name="serving_image"),), outputs=(replace(GIVES, name="serving_scores"),)
    )
    source = Source("tiny", inputs, outputs, model, None, tmp_path, metadata=named)
    artifact = converter.convert(source, precision="int8", calibration=None, output=tmp_path / "out.tflite")
    found = converter.inspect(artifact.path)
    assert (found.metadata, found.min_runtime_version) == (named, "1.14.0")


@pytest.mark.parametrize("precision", ["fp32", "dynamic-int8"])
def test_a_file_that_is_converted_further_keeps_its_metadata_and_labels(tmp_path: Path, precision: str) -> None:
    model = tmp_path / "float.tflite"
    model.write_bytes(embed(float_tflite(), CARD, where="x"))
    inputs = (replace(INPUTS[0].spec, name="serving_image"),)
    source = Source("tiny", inputs, (replace(OUTPUTS[0], name="serving_scores"),), model, None, tmp_path)
    artifact = converter.convert(source, precision=precision, calibration=None, output=tmp_path / "out.tflite")
    assert converter.inspect(artifact.path).metadata == CARD
    with zipfile.ZipFile(artifact.path) as archive:
        assert archive.namelist() == ["labels.txt"]


def test_label_files_that_cannot_be_carried_on_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "float.tflite"
    content = embed(float_tflite(), CARD, where="x")
    model.write_bytes(content.replace(b"PK\x01\x02", b"PK\x09\x09"))  # the zip's directory
    inputs = (replace(INPUTS[0].spec, name="serving_image"),)
    source = Source("tiny", inputs, (replace(OUTPUTS[0], name="serving_scores"),), model, None, tmp_path)
    with pytest.raises(ConversionError, match=r"float\.tflite: its associated files cannot be read"):
        converter.convert(source, precision="dynamic-int8", calibration=None, output=tmp_path / "out.tflite")
    assert not (tmp_path / "out.tflite").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_label_files_that_another_tool_packed_and_that_are_damaged_are_refused(tmp_path: Path, method: int) -> None:
    path, content = tmp_path / "x.tflite", embed(float_tflite(), CARD, where="x")
    model = content[: content.index(b"PK\x03\x04")]
    with path.open("wb") as stream:
        stream.write(model)
        with zipfile.ZipFile(stream, "a", method) as archive:
            archive.writestr("labels.txt", "circle\nsquare\n" * 20)
    packed = bytearray(path.read_bytes())
    packed[len(model) + 44 : len(model) + 60] = b"\xff" * 16
    path.write_bytes(packed)
    with pytest.raises(ConversionError, match=r"its metadata names 'labels\.txt', which cannot be read"):
        read_embedded(path)


def test_a_file_that_has_metadata_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"x\.tflite has metadata already: leave out \[metadata\]"):
        embed(embed(float_tflite(), CARD, where="x"), CARD, where="x.tflite")


def damaged(path: Path, change: Any) -> Path:
    """A file whose metadata `change(bytearray)` spoiled."""
    content = bytearray(embed(float_tflite(), CARD, where="x"))
    place = content.index(b"M001") - 4
    changed = bytearray(content[place : place + 64])
    change(changed)
    content[place : place + 64] = changed
    path.write_bytes(content)
    return path


def test_metadata_that_is_damaged_or_of_another_version_is_refused(tmp_path: Path) -> None:
    path = damaged(tmp_path / "x.tflite", lambda stored: stored.__setitem__(slice(4, 8), b"M002"))
    with pytest.raises(ConversionError, match=r"x\.tflite: its metadata begins with b'M002', expected b'M001'"):
        converter.inspect(path)
    damaged(path, lambda stored: stored.__setitem__(slice(0, 4), b"\xff\xff\xff\x7f"))
    with pytest.raises(ConversionError, match=r"x\.tflite: its metadata is damaged"):
        converter.inspect(path)


def test_no_damage_to_one_byte_of_metadata_is_more_than_a_refusal() -> None:
    stored = to_flatbuffer(CARD)
    refused = 0
    for place in range(len(stored)):
        for value in (0, 0x7F, 0xFF):
            spoiled = stored[:place] + bytes([value]) + stored[place + 1 :]
            try:
                from_flatbuffer(spoiled, lambda name: b"a\nb\nc\n", where=Path("x"))
            except ConversionError:
                refused += 1
    assert refused > 100


def test_a_label_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    content = embed(float_tflite(), CARD, where="x")
    path.write_bytes(content[: content.rindex(b"PK\x03\x04")])
    with pytest.raises(ConversionError, match=r"x\.tflite: its metadata names 'labels.txt', which cannot be read"):
        converter.inspect(path)


def test_a_row_of_metadata_without_its_buffer_is_refused(tmp_path: Path) -> None:
    content = bytearray(embed(float_tflite(), CARD, where="x"))
    (row,) = files.children(files.root(content), files.MODEL_METADATA)
    place = row.Pos + row.Offset(files.WORD + 2)
    content[place : place + 4] = (99).to_bytes(4, "little")
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"x\.tflite: its list of metadata is damaged"):
        converter.inspect(path)
