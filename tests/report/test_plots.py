"""What the plots are given: places of labels, the Pareto front, pictures, samples."""

from __future__ import annotations

import base64
import io
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.data import Data
from edgekit.measuring import Top1
from edgekit.report import sample_facts
from edgekit.report.drawing import draw
from edgekit.report.facts import HistoryPoint
from edgekit.report.history_charts import series_of
from edgekit.report.images import SIDE, pictures
from edgekit.report.latency import Distribution, latency_chart
from edgekit.report.page import to_html
from edgekit.report.pareto import Point, front
from edgekit.report.placing import HEIGHT, Dot, place
from tests.report.reports import full_report

Image = pytest.importorskip("PIL.Image")


def test_labels_find_room_of_their_own() -> None:
    dots = [Dot(100 + 3 * (n % 4), 150 + 2 * n, 8, f"variant-{n}") for n in range(8)]
    boxes = place(dots, 400, 300, lines=[140.0])
    assert not [pair for pair in combinations(boxes, 2) if pair[0].meets(pair[1])]
    assert not [box for box in boxes for dot in dots if box.covers(dot)]
    assert all(box.left >= 0 and box.right <= 400 and abs(box.middle - 140) >= HEIGHT / 2 for box in boxes)


def test_names_that_the_drawing_library_fails_on_are_drawn() -> None:
    cut_in_half = "\N{GRINNING FACE}" * 80
    svg = draw(latency_chart([Distribution(name, (0.1, 0.2)) for name in (cut_in_half, "a\x00b\x1b", "<b>&]]>")], 340))
    assert "a\ufffdb\ufffd" in svg
    assert "&lt;b&gt;&amp;]]&gt;" in svg


def test_a_lonely_label_stands_to_the_right() -> None:
    (box,) = place([Dot(50, 50, 10, "one")], 400, 300)
    assert (box.left, box.middle, box.led) == (64, 50, False)


def test_the_front_is_what_nothing_beats() -> None:
    fast = Point("fast", "tflite", 1.0, 0.9, 100)
    right = Point("right", "tflite", 3.0, 0.95, 300)
    small = Point("small", "onnx", 4.0, 0.8, 50)
    beaten = Point("beaten", "onnx", 3.0, 0.94, 300)
    twin = Point("twin", "onnx", 1.0, 0.9, 100)
    assert front([fast, right, small, beaten, twin]) == {fast, right, small, twin}


def test_the_lines_of_a_history_are_the_builds_own_then_the_longest() -> None:
    def point(version: str, device: str, variant: str) -> HistoryPoint:
        return HistoryPoint(version, None, device, variant, None, None, 1.0, 2.0)

    own = [point("1.0.0", "local:", "int8"), point("1.0.0", "local:", "fp32")]
    later = [point("1.1.0", f"ssh://board{number}", "int8") for number in range(6)]
    points = [point("0.9.0", "ssh://board1", "int8"), *own, *later]
    drawn, left = series_of(points, own)
    assert drawn[:3] == ["fp32, local", "int8, local", "int8, ssh://board1"]
    assert (len(drawn), left) == (6, 2)
    page = to_html(full_report(history=tuple(points)))
    assert "The table has 2 more." in page
    assert "The table has" not in to_html(full_report())


def opened(picture: str | None) -> np.ndarray:
    assert picture is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))


@pytest.mark.parametrize(
    ("shape", "size"), [((2, 8, 6, 1), (8, 6)), ((2, 3, 8, 6), (8, 6, 3)), ((1, 300, 200, 4), (96, 64, 4))]
)
def test_images_of_either_layout_become_small_pictures(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    values = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    made = [opened(picture) for picture in pictures({"image": values})]
    assert [picture.shape for picture in made] == [size] * shape[0]
    assert max(size[:2]) <= SIDE
    assert made[0].min() == 0
    assert made[-1].max() >= 254, "the last value, unless it was averaged away"


def test_bytes_are_shown_as_they_are() -> None:
    values = np.full((1, 8, 8, 3), 90, np.uint8)
    assert (opened(pictures({"image": values})[0]) == 90).all()


@pytest.mark.parametrize("shape", [(2, 10), (2, 8, 6, 7), (2, 3, 2, 1), (2, 8, 6)])
def test_what_is_no_image_has_no_picture(shape: tuple[int, ...]) -> None:
    assert pictures({"x": np.zeros(shape)}) == [None, None]


def measured(name: str, reference: np.ndarray, found: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(variant=SimpleNamespace(id=name), top1=Top1(reference, found))


def test_samples_are_the_golden_ones_and_those_that_changed_most() -> None:
    float_classes = np.arange(40) % 3
    one, two = float_classes.copy(), float_classes.copy()
    one[[5, 11]] = 2, 0
    two[11] = 1
    data = Data({"image": np.random.default_rng(0).random((40, 8, 8, 1))}, np.arange(40) % 3, "data")
    found = sample_facts(data, [measured("a", float_classes, one), measured("b", float_classes, two)], ["x", "y", "z"])  # type: ignore[list-item]
    golden = [int(row) for row in data.spread_rows(8)]
    assert [sample.row for sample in found] == [*golden, *(row for row in (11, 5) if row not in golden)]
    by_row = {sample.row: sample for sample in found}
    assert by_row[11].expected == by_row[11].reference == "z"
    assert by_row[11].predictions == {"a": "x", "b": "y"}
    assert all(sample.picture for sample in found)


def test_a_model_without_classes_has_no_samples() -> None:
    data = Data({"x": np.zeros((4, 2))}, np.zeros(4), "data")
    assert sample_facts(data, [SimpleNamespace(variant=SimpleNamespace(id="a"), top1=None)], None) == ()  # type: ignore[list-item]
