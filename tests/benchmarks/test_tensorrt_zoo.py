"""The matrix of TensorRT builds: from an architecture to the page."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

from benchmarks import tensorrt_zoo, zoo
from benchmarks.journal import Cell, read
from benchmarks.tensorrt_zoo import ARCHITECTURES, COLUMNS, fill, one_sample, page
from tests.onnx_graphs import convolution

JOURNAL = tensorrt_zoo.ROOT / "docs" / "tensorrt-matrix.jsonl"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')
def test_a_row_is_converted_built_and_written_down(tmp_path: Path) -> None:
    journal = tmp_path / "page.jsonl"
    fill(journal, "transformer", ["int8 dynamic", "int9 static"])
    cells = read(journal)
    assert re.search(r"\d+ of \d+ Int8", cells["transformer", "int8 dynamic"].text)
    assert cells["transformer", "int9 static"] == Cell("refused", "onnx has no precision 'int9'; did you mean 'int8'?")
    assert f"| {cells['transformer', 'int8 dynamic'].text} |" in page(cells)


def test_a_static_file_takes_one_sample(tmp_path: Path) -> None:
    (value,) = onnx.load(one_sample(convolution(tmp_path / "x.onnx"))).graph.input
    assert [size.dim_value for size in value.type.tensor_type.shape.dim] == [1, 3, 8, 8]


def test_every_architecture_is_in_the_zoo() -> None:
    assert set(ARCHITECTURES) <= {*zoo.ARCHITECTURES, *zoo.CONVERTED_TOO}


def test_the_page_in_the_docs_is_its_journals() -> None:
    assert JOURNAL.with_suffix(".md").read_text(encoding="utf-8") == page(read(JOURNAL))
    assert len(read(JOURNAL)) == len(ARCHITECTURES) * len(COLUMNS)


def test_mobilenets_layers_are_planned_as_int8() -> None:
    for column in ("int8 static", "int8 dynamic"):
        found = re.search(r"(\d+) of (\d+) Int8", read(JOURNAL)["MobileNetV2", column].text)
        assert found is not None
        assert int(found[1]) >= 52
        assert int(found[2]) == 53
