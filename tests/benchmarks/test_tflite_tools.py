"""The comparison of TFLite conversions: its figures are true, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import flatbuffers
import numpy as np
import pytest

from benchmarks import tflite_page, tflite_sides, tflite_sparse, tflite_tools
from benchmarks.tflite_sides import PRECISIONS, judge
from examples.study import Notebook
from tests import tiny_models


def test_a_file_is_judged_by_its_distance_from_the_reference(tmp_path: Path) -> None:
    reference = tiny_models.expected(tiny_models.IMAGES)
    labels = reference.argmax(-1)
    files = {"float": tiny_models.float_tflite(), "int8": tiny_models.int8_tflite()}
    found = {}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        found[name] = judge(tmp_path / name, tiny_models.IMAGES, labels, reference)
    assert {name: entry["bytes"] for name, entry in found.items()} == {name: len(file) for name, file in files.items()}
    assert found["float"]["snr_db"] > 100 > found["int8"]["snr_db"] > 20
    assert found["float"]["top1"] == 1
    assert judge(tmp_path / "float", tiny_models.IMAGES, labels, 2 * reference)["snr_db"] == pytest.approx(
        6.02, abs=0.01
    )


def test_constants_that_are_there_twice_are_counted(tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    path, content = tmp_path / "x.tflite", tiny_models.float_tflite()
    path.write_bytes(content)
    before = tflite_sides.duplicate_bytes(path)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    kernel = max((buffer for buffer in model.buffers if buffer.data is not None), key=lambda each: len(each.data))
    model.buffers.append(kernel)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    assert tflite_sides.duplicate_bytes(path) - before == len(kernel.data) == tiny_models.WEIGHTS.nbytes


def test_what_the_converter_lacks_is_not_asked_of_it(tmp_path: Path) -> None:
    commands = tflite_tools.sides(tmp_path)
    assert [argv[-1] for argv in commands["converter"]] == [name for name in PRECISIONS if name != "int4-weights"]
    assert len(commands["edgekit"]) == len(commands["quantizer"]) == 1


def test_a_cost_is_the_sum_of_times_and_the_highest_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter(
        [tflite_tools.Run(2.0, 1.5, 300.0, 180.0, 90.0, {}, ""), tflite_tools.Run(3.0, 2.5, 200.0, 200.0, 95.0, {}, "")]
    )
    monkeypatch.setattr(tflite_tools, "run", lambda argv, environment: next(runs))
    assert tflite_tools.cost([["a"], ["b"]]) == {
        "wall_s": 5.0, "cpu_s": 4.0, "peak_mib": 300, "shared_once_mib": 200, "anonymous_mib": 95, "each_s": [2.0, 3.0],
    }  # fmt: skip


def test_a_dense_file_has_no_sparse_tensors_and_equals_itself(tmp_path: Path) -> None:
    path = tmp_path / "fp32-dense.tflite"
    path.write_bytes(tiny_models.float_tflite())
    np.savez(tmp_path / "calibration.npz", image=tiny_models.IMAGES)
    (entry,) = tflite_sparse.figures({"fp32, 80%, dense": path}).values()
    assert (entry["bytes"], entry["sparse_tensors"], entry["difference"]) == (path.stat().st_size, 0, 0.0)
    assert 0 < entry["zipped"] < entry["bytes"]
    assert entry["median_ms"] > 0


def test_the_smallest_weights_are_zeroed(dense: Path) -> None:
    import keras

    model = keras.models.load_model(dense / "model.keras")
    before = [np.array(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")]
    tflite_sparse.zero_smallest(model, 0.8)
    for old, layer in zip(before, [layer for layer in model.layers if hasattr(layer, "kernel")], strict=True):
        new = np.array(layer.kernel)
        assert np.mean(new == 0) == pytest.approx(0.8, abs=0.05)
        assert np.abs(old[new == 0]).max() <= np.abs(new[new != 0]).min()


@pytest.mark.slow
def test_all_sides_make_what_they_say(dense: Path, tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "figures.json")
    copy = lambda folder: [(folder / file.name).write_bytes(file.read_bytes()) for file in dense.iterdir()]  # noqa: E731
    tflite_tools.compare(notebook, "tiny", copy, tmp_path / "tiny", rounds=1)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["tiny, converter, round 0"]["each_s"]) == 6
    files = figures["tiny, files"]
    assert set(files["edgekit"]) == set(files["quantizer"]) == set(PRECISIONS)
    for side in tflite_sides.SIDES:
        assert files[side]["fp32"]["snr_db"] > 80
        assert figures[f"tiny, {side}, round 0"]["peak_mib"] > 300
    assert files["converter"]["int8"]["snr_db"] > 20
    assert files["edgekit"]["int8"]["snr_db"] > max(20, files["quantizer"]["int8"]["snr_db"])


def test_the_page_in_the_docs_is_what_its_figures_make() -> None:
    assert tflite_page.PAGE.read_text(encoding="utf-8") == tflite_page.page()
