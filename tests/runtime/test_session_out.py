"""`run(out=)` and `run_batch`: results where the caller wants them, and several inputs in one run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import DataError, EngineError
from edgekit.runtime import Session, open_bundle
from edgekit.tensorrt.recipe import Recipe
from tests.runtime.fake_board import Board
from tests.tiny_models import IMAGES, Part, float_onnx, pack

VARIANTS = ["tflite-fp32", "tflite-int8", "onnx-fp32"]


@pytest.fixture(params=VARIANTS)
def session(request: pytest.FixtureRequest, tiny_bundle: Path) -> Session:
    return open_bundle(tiny_bundle, variant=request.param)


def places(count: int = 1, dtype: str = "float32") -> dict[str, np.ndarray]:
    return {"scores": np.full((count, 3), 77, dtype)}


class TestOut:
    @pytest.mark.parametrize("count", [1, 5])
    def test_the_results_are_there(self, session: Session, count: int) -> None:
        out = places(count)
        for images in (IMAGES[:count], IMAGES[-count:]):  # twice: the second time everything is bound already
            results = session.run({"image": images}, out=out)
            assert results["scores"] is out["scores"]
            np.testing.assert_array_equal(out["scores"], session.run({"image": images})["scores"])

    def test_other_places_the_next_time(self, session: Session) -> None:
        first, second = places(), places()
        session.run({"image": IMAGES[:1]}, out=first)
        kept = first["scores"].copy()
        session.run({"image": IMAGES[1:2]}, out=second)
        np.testing.assert_array_equal(first["scores"], kept)
        np.testing.assert_array_equal(second["scores"], session.run({"image": IMAGES[1:2]})["scores"])

    def test_an_input_with_gaps(self, session: Session) -> None:
        wide = np.zeros((1, 8), np.float32)
        wide[:, ::2] = IMAGES[:1]
        out = places()
        session.run({"image": wide[:, ::2]}, out=out)
        np.testing.assert_array_equal(out["scores"], session.run({"image": IMAGES[:1]})["scores"])

    def test_raw(self, tiny_bundle: Path) -> None:
        with open_bundle(tiny_bundle, variant="tflite-int8") as session:
            image, out = np.arange(4, dtype=np.int8).reshape(1, 4), places(dtype="int8")
            session.run({"image": image}, raw=True, out=out)
            np.testing.assert_array_equal(out["scores"], session.run({"image": image}, raw=True)["scores"])

    def test_on_a_gpu(self, board: Board, tmp_path: Path) -> None:
        part = Part("onnx", "fp32", float_onnx(), "onnxruntime", recipe=Recipe())
        with open_bundle(pack(tmp_path, (part,)), engine="tensorrt") as session:
            out = places()
            session.run({"image": IMAGES[:1]}, out=out)
            np.testing.assert_array_equal(out["scores"], session.run({"image": IMAGES[:1]})["scores"])
            with pytest.raises(EngineError, match=r"output 'output_1' has shape \(1, 3\), out has \(2, 3\)"):
                session.run({"image": IMAGES[:1]}, out=places(2))

    @pytest.mark.parametrize(
        ("out", "message"),
        [
            ({}, "out has nothing, expected scores"),
            ({"scores": np.zeros((1, 3), np.float32), "more": np.zeros(1)}, "out has scores, more, expected scores"),
            ({"scores": [0.0]}, "out 'scores' is a list, expected a numpy array"),
            ({"scores": np.zeros((1, 4), np.float32)}, r"out: 'scores' has shape \(1, 4\) float32, expected"),
            ({"scores": np.zeros((1, 3))}, r"out: 'scores' has shape \(1, 3\) float64, expected"),
            ({"scores": np.zeros((1, 6), np.float32)[:, ::2]}, "out 'scores' is read-only or has gaps"),
            ({"scores": np.broadcast_to(np.float32(0), (1, 3))}, "out 'scores' is read-only or has gaps"),
        ],
    )
    def test_no_place(self, session: Session, out: dict[str, np.ndarray], message: str) -> None:
        with pytest.raises(DataError, match=message):
            session.run({"image": IMAGES[:1]}, out=out)

    def test_places_for_another_number_of_samples(self, session: Session) -> None:
        out = places(2)
        with pytest.raises((DataError, EngineError), match="shape"):
            session.run({"image": IMAGES[:1]}, out=out)
        with pytest.raises((DataError, EngineError), match="shape"):
            session.run({"image": IMAGES[:3]}, out=out)
        assert np.isfinite(session.run({"image": IMAGES[:2]}, out=out)["scores"]).all()

    def test_a_place_inside_the_input(self, tiny_bundle: Path) -> None:
        memory = np.zeros(4, np.float32)
        with (
            open_bundle(tiny_bundle, variant="onnx-fp32") as session,
            pytest.raises(EngineError, match="input 'input_1' shares memory with an array of out"),
        ):
            session.run({"image": memory.reshape(1, 4)}, out={"scores": memory[:3].reshape(1, 3)})


class TestBatches:
    @pytest.mark.parametrize("counts", [[], [1], [1, 1, 1], [2, 1, 3]])
    def test_each_gets_its_own(self, session: Session, counts: list[int]) -> None:
        ends = np.cumsum([0, *counts])
        samples = [{"image": IMAGES[start:end]} for start, end in pairwise(ends)]
        results = session.run_batch(samples)
        assert len(results) == len(counts)
        for sample, result in zip(samples, results, strict=True):
            np.testing.assert_allclose(result["scores"], session.run(sample)["scores"], atol=1e-6)

    def test_one_run_where_the_file_takes_any_number(self, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with open_bundle(tiny_bundle, variant="onnx-fp32") as session:
            runs: list[int] = []
            inner = session._runner
            assert inner is not None
            real = inner.run
            monkeypatch.setattr(inner, "run", lambda arrays: runs.append(len(arrays[0])) or real(arrays))
            session.run_batch([{"image": IMAGES[:2]}, {"image": IMAGES[2:5]}])
        assert runs == [5]

    def test_the_wrong_one_is_named_before_any_runs(self, session: Session) -> None:
        with pytest.raises(DataError, match=r"tiny-1.0.0.edgekit: sample 1: 'image' has shape \(1, 5\)"):
            session.run_batch([{"image": IMAGES[:1]}, {"image": np.zeros((1, 5), np.float32)}])
        with pytest.raises(DataError, match=r"sample 1 is a list, expected a dict of arrays"):
            session.run_batch([{"image": IMAGES[:1]}, []])  # type: ignore[list-item]

    def test_a_closed_session(self, session: Session) -> None:
        session.close()
        with pytest.raises(EngineError, match="the session is closed"):
            session.run_batch([{"image": IMAGES[:1]}])
