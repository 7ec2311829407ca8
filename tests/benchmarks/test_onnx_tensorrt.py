"""The comparison of ONNX conversions: its figures are true, on tiny models."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from benchmarks import onnx_tensorrt
from benchmarks.onnx_sides import PRECISIONS, SIDES, judge
from examples.study import Notebook
from tests.onnx_graphs import constant, model, saved


def test_a_file_is_judged_by_its_distance_from_the_reference(tmp_path: Path) -> None:
    weights, given = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8)).astype(np.float32)
    product = model([helper.make_node("MatMul", ["x", "w"], ["y"])], [constant("w", weights)], shape=("batch", 8))
    path, reference = saved(product, tmp_path / "x.onnx"), given @ weights
    found = judge(path, given, reference.argmax(-1), reference)
    assert (found["bytes"], found["top1"]) == (path.stat().st_size, 1)
    assert found["snr_db"] > 100
    assert judge(path, given, reference.argmin(-1), 2 * reference) == {
        **found, "top1": 0, "snr_db": pytest.approx(6.02, abs=0.01),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason='pip install "edgekit[tensorrt-rtx]"')
def test_all_sides_make_what_they_say(dense: Path, tmp_path: Path) -> None:
    shutil.copytree(dense, tmp_path / "tiny")
    onnx_tensorrt.compare(Notebook(tmp_path / "figures.json"), "tiny", tmp_path / "tiny", rounds=1)
    figures = json.loads((tmp_path / "figures.json").read_text())
    files = figures["tiny, files"]
    for side in SIDES:
        assert set(files[side]) == set(PRECISIONS)
        assert files[side]["fp32"]["snr_db"] > 80
        assert figures[f"tiny, {side}, round 0"]["peak_mib"] > 300
    assert files["edgekit"]["int8"]["snr_db"] > 20
    for precision in PRECISIONS:
        engine = figures[f"tiny, {precision}, engine"]
        assert engine["hit_ms"] < 1000 * engine["build_s"]


@pytest.mark.slow
def test_large_matrices(tmp_path: Path) -> None:
    onnx_tensorrt.compare_large(Notebook(tmp_path / "figures.json"), tmp_path, rounds=1, width=1024)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["large matrices, parameters"] > 5_000_000
    assert figures["large matrices, edgekit, round 0"]["peak_mib"] > 300
    sizes = [(tmp_path / side / "fp32.onnx").stat().st_size for side in ("edgekit", "by-hand")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
