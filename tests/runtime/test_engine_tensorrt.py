"""The TensorRT engine as a session sees it, on fakes: choosing it, building once, and falling back in words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import BuildError, BundleError, DataError, EngineError
from edgekit.runtime import Rejected, engine_onnx, engine_tensorrt, open_bundle
from edgekit.runtime.engines import EngineStatus
from edgekit.tensorrt.cache import cache_folder
from edgekit.tensorrt.recipe import Recipe
from tests.runtime.fake_board import Board
from tests.runtime.fake_tensorrt import VERSION, plan
from tests.runtime.recording_cuda import RecordingCuda
from tests.runtime.test_device_arrays import There
from tests.tiny_models import IMAGES, Part, expected, float_onnx, int8_tflite, pack


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """int8 TFLite, and fp32 ONNX with a recipe: what a project for phones and Jetsons makes."""
    tflite = Part("tflite", "int8", int8_tflite(), "litert", "int8")
    onnx = Part("onnx", "fp32", float_onnx(), "onnxruntime", recipe=Recipe())
    return pack(tmp_path_factory.mktemp("board"), (tflite, onnx))


class TestChoosing:
    def test_what_the_board_builds_comes_first(self, board: Board, bundle: Path) -> None:
        with open_bundle(bundle) as session:
            choice = session.choice
            scores = session.run({"image": IMAGES})["scores"]
        np.testing.assert_allclose(scores, expected(IMAGES), atol=1e-6)
        assert (choice.variant, choice.engine, choice.package) == ("onnx-fp32", "tensorrt", "tensorrt")
        assert (choice.engine_version, choice.accelerator) == (VERSION, "cuda (Fake Orin, SM87)")
        assert choice.reason == "fp32 on tensorrt is the first in order of preference that runs here"
        assert choice.rejected == (Rejected("tflite-int8", "'onnx-fp32' comes before it"),)
        assert board.left() == set()

    def test_an_engine_is_built_once(self, board: Board, bundle: Path) -> None:
        for _ in range(3):
            with open_bundle(bundle, variant="onnx-fp32") as session:
                session.run({"image": IMAGES})
        assert board.builder.builds == 1
        (model,) = board.builder.models
        assert model == float_onnx()

    def test_without_a_gpu_it_says_so(self, board: Board, bundle: Path) -> None:
        board.devices = 0
        with open_bundle(bundle) as session:
            assert (session.choice.variant, session.choice.engine) == ("tflite-int8", "litert")
            (rejected,) = session.choice.rejected
        assert rejected.variant == "onnx-fp32"
        assert rejected.reason == (
            "on tensorrt: cudaErrorNoDevice (100) when looking for a GPU: no GPU is visible; "
            "on onnxruntime: 'tflite-int8' comes before it"
        )
        assert board.trt.given == []  # TensorRT is not touched: its lean runtime crashes without a driver

    def test_the_same_variant_on_its_own_engine_says_why_not_tensorrt(self, board: Board, bundle: Path) -> None:
        board.builder.problem = BuildError("TensorRT 10.3.0 refuses model.onnx: Non-zero zero point")
        with open_bundle(bundle, variant="onnx-fp32") as session:
            choice = session.choice
        assert (choice.engine, choice.rejected) == ("onnxruntime", ())
        assert choice.reason == (
            "asked for, or the only one; not on tensorrt: TensorRT 10.3.0 refuses model.onnx: Non-zero zero point"
        )
        assert board.left() == set()

    def test_tensorrt_is_not_installed(self, monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
        monkeypatch.setattr(engine_tensorrt, "installed_version", lambda module, names: None)
        with open_bundle(bundle, variant="onnx-fp32") as session:
            assert "not on tensorrt: engine 'tensorrt' is not installed: on a Jetson it comes" in session.choice.reason

    def test_tensorrt_is_too_old(self, monkeypatch: pytest.MonkeyPatch, board: Board, bundle: Path) -> None:
        monkeypatch.setattr(engine_tensorrt, "installed_version", lambda module, names: ("tensorrt", "8.5.2.2"))
        with open_bundle(bundle, variant="onnx-fp32") as session:
            assert "not on tensorrt: tensorrt 8.5.2.2 is older than 10.3: on a Jetson it comes" in session.choice.reason

    def test_tensorrt_says_itself_that_it_is_too_old(self, board: Board, bundle: Path) -> None:
        board.trt.__version__ = "8.5.2.2"  # of a JetPack whose package has no metadata
        with pytest.raises(EngineError, match=r"TensorRT 8.5.2.2 is older than 10.3: update to JetPack 6"):
            open_bundle(bundle, engine="tensorrt")
        assert board.left() == set()

    def test_tensorrt_alone(self, board: Board, bundle: Path) -> None:
        with open_bundle(bundle, engine="tensorrt") as session:
            assert session.choice.engine == "tensorrt"
        board.devices = 0
        with pytest.raises(
            EngineError, match=r"no variant runs here: 'onnx-fp32': on tensorrt: cudaErr.*'tflite-int8': it needs"
        ):
            open_bundle(bundle, engine="tensorrt")

    def test_another_engine_by_name(self, board: Board, bundle: Path) -> None:
        with open_bundle(bundle, engine="onnxruntime") as session:
            assert session.choice.engine == "onnxruntime"
            assert "not on tensorrt: it needs engine 'tensorrt', 'onnxruntime' was asked for" in session.choice.reason
        assert board.builder.builds == 0

    def test_a_variant_without_a_recipe_stays_on_its_engine(self, board: Board, tmp_path: Path) -> None:
        with open_bundle(pack(tmp_path, (Part("onnx", "fp32", float_onnx(), "onnxruntime"),))) as session:
            assert session.choice.engine == "onnxruntime"
            assert session.choice.reason == "asked for, or the only one"
        with pytest.raises(EngineError, match=r"this variant carries no recipe"):
            engine_tensorrt.open_model(float_onnx(), (), (), threads=1)

    def test_nothing_at_all(self, board: Board, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        board.devices = 0
        missing = EngineStatus("onnxruntime", None, None, "pip install it", True)
        monkeypatch.setattr(engine_onnx, "find", lambda: missing)
        with pytest.raises(EngineError, match=r"on tensorrt: cudaErrorNoDevice.*; on onnxruntime: engine 'onnx"):
            open_bundle(bundle, variant="onnx-fp32")


class TestCache:
    def test_a_flipped_byte_is_built_again(self, board: Board, bundle: Path) -> None:
        with open_bundle(bundle, engine="tensorrt"):
            pass
        (engine,) = cache_folder().glob("*.engine")
        content = bytearray(engine.read_bytes())
        content[5] ^= 0x55
        engine.write_bytes(content)
        with open_bundle(bundle, engine="tensorrt"):
            pass
        assert board.builder.builds == 2
        assert board.trt.given == [plan(), plan()]  # TensorRT never saw the other

    def test_an_engine_that_tensorrt_does_not_take_any_more_is_built_again(self, board: Board, bundle: Path) -> None:
        board.builder.content = b"an engine of yesterday"
        with pytest.raises(EngineError, match=r"TensorRT 10.3.0 refuses the engine that it built: Serialization"):
            open_bundle(bundle, engine="tensorrt")
        assert board.builder.builds == 1  # what was built now and refused is not built a second time
        board.builder.content = plan()
        with open_bundle(bundle, engine="tensorrt") as session:
            assert session.choice.engine == "tensorrt"
        assert board.builder.builds == 2
        assert board.left() == set()

    def test_a_folder_that_cannot_be_written_to(
        self, board: Board, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("not a folder")
        monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file"))
        with open_bundle(bundle, variant="onnx-fp32") as session:
            assert session.choice.engine == "onnxruntime"
            assert "cannot be written to" in session.choice.reason
            assert "name another folder with EDGEKIT_CACHE" in session.choice.reason

    def test_a_version_compatible_engine_may_carry_code(self, board: Board, tmp_path: Path) -> None:
        recipe = Recipe(version_compatible=True)
        path = pack(tmp_path, (Part("onnx", "fp32", float_onnx(), "onnxruntime", recipe=recipe),))
        with open_bundle(path, engine="tensorrt"):
            pass
        assert board.trt.host_code == [True]


class TestSessions:
    def test_arrays_on_the_gpu(self, board: Board, bundle: Path) -> None:
        images = np.ascontiguousarray(IMAGES)
        there = There(images.shape, data=(images.ctypes.data, False))
        with open_bundle(bundle, engine="tensorrt") as session:
            scores = session.run({"image": there})["scores"]  # type: ignore[dict-item]
            assert "copy_to_device" not in board.cudas[-1].calls
            with pytest.raises(DataError, match=r"'image' has shape \(8, 5\) float32, expected \(batch, 4\) float32"):
                session.run({"image": There((8, 5))})  # type: ignore[dict-item]
            with pytest.raises(DataError, match=r"float64, expected"):
                session.run({"image": There((8, 4), "<f8")})  # type: ignore[dict-item]
        np.testing.assert_allclose(scores, expected(IMAGES), atol=1e-6)

    def test_an_array_on_the_gpu_that_would_need_a_conversion(self, board: Board, tmp_path: Path) -> None:
        tensors = {"input_1": (4, "INT8"), "output_1": (3, "INT8")}
        board.builder.content = plan(tensors=tensors)
        part = Part("onnx", "int8", float_onnx(), "onnxruntime", "int8", recipe=Recipe())
        with (
            open_bundle(pack(tmp_path, (part,)), engine="tensorrt") as session,
            pytest.raises(DataError, match=r"'image' is in the GPU's memory, this variant takes another dtype"),
        ):
            session.run({"image": There((8, 4))})  # type: ignore[dict-item]

    def test_stages(self, board: Board, bundle: Path) -> None:
        with open_bundle(bundle, engine="tensorrt") as session:
            stages = session.stages({"image": IMAGES}, warmup=2, runs=5)
        assert stages is not None
        assert (stages.warmup, stages.runs, stages.cuda_graph) == (2, 5, True)
        assert (stages.h2d.median_ms, stages.compute.p99_ms, stages.d2h.max_ms, stages.latency.min_ms) == (
            0.5, 0.5, 0.5, 1.5,
        )  # fmt: skip
        assert stages.throughput_per_s > 0
        assert stages.enqueue.median_ms >= 0

    def test_stages_of_a_file_for_one_sample(self, board: Board, bundle: Path) -> None:
        one = ({"input_1": ((1, 4), (1, 4), (1, 4))},)
        board.builder.content = plan(open_batch=False, profiles=one)
        with open_bundle(bundle, engine="tensorrt") as session:
            np.testing.assert_allclose(session.run({"image": IMAGES})["scores"], expected(IMAGES), atol=1e-6)
            with pytest.raises(DataError, match=r"8 runs are needed for these samples; give those of one"):
                session.stages({"image": IMAGES})


class TestFacts:
    @pytest.mark.parametrize(
        ("text", "release"),
        [
            ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\nmore\n", "36.4.3"),
            ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic", "38.2.0"),
            ("of another form\nsecond\n", "of another form"),
        ],
    )
    def test_the_l4t_release(self, text: str, release: str) -> None:
        assert engine_tensorrt.l4t_release(text) == release

    def test_the_machine(self, board: Board, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        release = tmp_path / "nv_tegra_release"
        release.write_text("# R36 (release), REVISION: 4.3, GCID")
        monkeypatch.setattr(engine_tensorrt, "_RELEASE", release)
        machine = engine_tensorrt.machine_facts(board.trt, RecordingCuda())
        assert dataclasses.astuple(machine) == ("tensorrt", VERSION, "Fake Orin", "SM87", 12060, 12060, "36.4.3")


@pytest.mark.parametrize("fail_at", range(1, 7))
def test_cuda_fails_at_opening(board: Board, monkeypatch: pytest.MonkeyPatch, fail_at: int) -> None:
    cuda = RecordingCuda(fail_at=fail_at)
    board.trt.cuda = cuda
    monkeypatch.setattr(engine_tensorrt, "open_cuda", lambda: cuda)
    variant = Part("onnx", "fp32", float_onnx(), "onnxruntime").variant()
    with pytest.raises(EngineError, match=rf"cudaErrorUnknown \(999\) when call {fail_at}, .*: restart the machine"):
        engine_tensorrt.open_model(float_onnx(), variant.inputs, variant.outputs, threads=1, recipe=Recipe())
    assert (cuda.live, cuda.closed) == (set(), 1)


def test_a_bundle_that_names_no_such_variant(board: Board, bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"no variant 'onnx-fp16'"):
        open_bundle(bundle, variant="onnx-fp16")
