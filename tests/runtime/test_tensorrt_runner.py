"""The TensorRT runner on fakes: order of calls, what is kept, what is freed, and what goes wrong."""

from __future__ import annotations

import gc
import itertools
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from edgekit.errors import EngineError
from edgekit.manifest import Binding
from edgekit.runtime.cuda_memory import DeviceArray
from edgekit.runtime.tensorrt_runner import LoadedEngine, TensorRTRunner, deserialize
from tests.runtime.fake_tensorrt import FakeTensorRT, plan
from tests.runtime.recording_cuda import RecordingCuda
from tests.tiny_models import IMAGES, expected

INPUTS = (Binding("image", "input_1", "float32"),)
OUTPUTS = (Binding("scores", "output_1", "float32"),)
GPU = "Fake Orin, SM87"
WIDE = {"input_1": ((1, 4), (1, 4), (9, 4))}
CAPTURING = ("begin_capture", "end_capture", "instantiate", "destroy_graph")  # no error: work is enqueued as before


def loaded(trt: FakeTensorRT, content: bytes) -> LoadedEngine:
    engine = deserialize(trt, content, host_code=False)
    assert isinstance(engine, LoadedEngine)
    return engine


def opened(cuda: RecordingCuda, content: bytes | None = None) -> TensorRTRunner:
    return TensorRTRunner(cuda, loaded(FakeTensorRT(cuda), content or plan()), INPUTS, OUTPUTS, GPU)


def calls_of(cuda: RecordingCuda, runner: TensorRTRunner, images: Any) -> list[str]:
    before = len(cuda.calls)
    runner.run([images])
    return cuda.calls[before:]


class TestRunning:
    def test_outputs(self) -> None:
        cuda = RecordingCuda()
        runner = opened(cuda)
        assert runner.accelerator == "cuda (Fake Orin, SM87)"
        assert runner.shapes == ((None, 4),)
        for count in (1, 3, 3, 3, 8, 1):
            (scores,) = runner.run([IMAGES[:count]])
            np.testing.assert_allclose(scores, expected(IMAGES[:count]), atol=1e-6)
        runner.close()

    def test_the_order_of_calls(self) -> None:
        cuda = RecordingCuda()
        runner = opened(cuda)
        copies_and_wait = ["copy_to_host", "synchronize"]
        assert calls_of(cuda, runner, IMAGES[:1]) == [
            "enter", "shape (1, 4)", "allocate device", "allocate pinned", "address output_1",
            "allocate device", "allocate pinned", "address input_1", "copy_to_device", "execute", *copies_and_wait,
        ]  # fmt: skip
        assert calls_of(cuda, runner, IMAGES[:1]) == [
            "enter", "copy_to_device", "begin_capture", "execute", "end_capture", "instantiate", "destroy_graph",
            "launch", *copies_and_wait,
        ]  # fmt: skip
        for _ in range(2):
            assert calls_of(cuda, runner, IMAGES[:1]) == ["enter", "copy_to_device", "launch", *copies_and_wait]
        runner.close()

    def test_a_new_shape_drops_the_graph_and_keeps_memory_that_is_large_enough(self) -> None:
        cuda = RecordingCuda()
        runner = opened(cuda)
        for _ in range(2):
            runner.run([IMAGES])
        smaller = calls_of(cuda, runner, IMAGES[:2])
        assert smaller[:3] == ["enter", "destroy_executable", "shape (2, 4)"]
        assert "execute" in smaller
        assert not [call for call in smaller if "allocate" in call or "free" in call or "capture" in call]
        assert "begin_capture" in calls_of(cuda, runner, IMAGES[:2])
        assert cuda.sizes == [96, 96, 128, 128]
        runner.close()

    def test_larger_memory_replaces_the_smaller(self) -> None:
        cuda = RecordingCuda()
        runner = opened(cuda)
        runner.run([IMAGES[:1]])
        runner.run([IMAGES])
        assert [kind.split()[0] for kind in sorted(cuda.live)] == ["device", "device", "pinned", "pinned", "stream"]
        runner.close()

    def test_the_outputs_are_the_callers_own(self) -> None:
        runner = opened(RecordingCuda())
        (first,) = runner.run([IMAGES[:1]])
        runner.run([IMAGES[1:2]])
        np.testing.assert_allclose(first, expected(IMAGES[:1]), atol=1e-6)
        runner.close()

    def test_the_first_profile_that_fits(self) -> None:
        cuda = RecordingCuda()
        small, large = {"input_1": ((1, 4), (1, 4), (1, 4))}, {"input_1": ((2, 4), (8, 4), (8, 4))}
        runner = opened(cuda, plan(profiles=(small, large)))
        assert "profile 0" in calls_of(cuda, runner, IMAGES[:1])
        assert "profile 1" in calls_of(cuda, runner, IMAGES[:3])
        runner.close()

    def test_one_profile_needs_no_choice(self) -> None:
        cuda = RecordingCuda()
        runner = opened(cuda)
        assert "profile 0" not in calls_of(cuda, runner, IMAGES[:1])
        runner.close()


class TestGraphs:
    def test_work_that_cannot_be_captured_is_enqueued(self) -> None:
        cuda = RecordingCuda()
        runner = opened(cuda, plan(capture="refused"))
        runner.run([IMAGES])
        tried = calls_of(cuda, runner, IMAGES)
        assert tried[2:6] == ["begin_capture", "execute", "end_capture", "destroy_graph"]
        assert tried[6:] == ["execute", "copy_to_host", "synchronize"]
        np.testing.assert_allclose(runner.run([IMAGES])[0], expected(IMAGES), atol=1e-6)
        assert "begin_capture" not in calls_of(cuda, runner, IMAGES)
        assert runner.timed_run([IMAGES]).cuda_graph is False
        runner.close()

    def test_a_graph_that_launches_is_said(self) -> None:
        runner = opened(RecordingCuda())
        assert [runner.timed_run([IMAGES]).cuda_graph for _ in range(2)] == [False, True]
        runner.close()


class TestDeviceArrays:
    def test_they_are_read_where_they_are(self) -> None:
        cuda = RecordingCuda()
        runner = opened(cuda)
        images = np.ascontiguousarray(IMAGES)
        there = DeviceArray(images.ctypes.data, images.shape, images.dtype, None, images)
        (scores,) = runner.run([there])  # type: ignore[list-item]
        np.testing.assert_allclose(scores, expected(IMAGES), atol=1e-6)
        assert "copy_to_device" not in cuda.calls
        assert cuda.sizes == [96, 96]  # of the output alone
        runner.close()

    def test_the_stream_that_makes_them_is_waited_for(self) -> None:
        cuda = RecordingCuda()
        runner = opened(cuda)
        there = DeviceArray(IMAGES.ctypes.data, IMAGES.shape, IMAGES.dtype, 7, IMAGES)
        runner.run([there])  # type: ignore[list-item]
        assert cuda.calls.index("synchronize 7") < cuda.calls.index("execute")
        runner.close()

    def test_another_address_makes_the_graph_anew(self) -> None:
        cuda = RecordingCuda()
        runner = opened(cuda)
        others = [IMAGES.copy() for _ in range(2)]
        first, second = (DeviceArray(x.ctypes.data, x.shape, x.dtype, None, x) for x in others)
        for there in (first, first, first):
            runner.run([there])  # type: ignore[list-item]
        others[1] += 1
        (scores,) = runner.run([second])  # type: ignore[list-item]
        np.testing.assert_allclose(scores, expected(others[1]), atol=1e-6)
        runner.run([IMAGES])
        (scores,) = runner.run([IMAGES])
        np.testing.assert_allclose(scores, expected(IMAGES), atol=1e-6)
        runner.close()


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"context": "refused"}, r"makes no execution context: .*OutOfMemory"),
            ({"location": "HOST"}, r"'input_1' is a shape tensor, kept on the host"),
            ({"tensors": {"other": (4, "FLOAT"), "output_1": (3, "FLOAT")}}, r"no input tensor 'input_1'"),
            ({"tensors": {"input_1": (4, "HALF"), "output_1": (3, "FLOAT")}}, r"is float16, the manifest says float32"),
            ({"tensors": {"input_1": (4, "BF16"), "output_1": (3, "FLOAT")}}, r"is bf16, the manifest says float32"),
        ],
    )  # fmt: skip
    def test_engines_that_cannot_be_opened(self, changes: dict[str, Any], message: str) -> None:
        cuda = RecordingCuda()
        with pytest.raises(EngineError, match=message):
            opened(cuda, plan(**changes))
        assert cuda.live == set()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"execute": "refused"}, r"TensorRT failed while running: Error Code 1: Cuda Runtime"),
            ({"shape": "refused"}, r"does not take 'input_1' of shape \(8, 4\): TensorRT gave no reason"),
            ({"infer": "raises"}, r"cannot tell the outputs' shapes: IExecutionContext::inferShapes: Error Code 7"),
            ({"unknown": ["input_2"]}, r"cannot tell the shapes of input_2"),
            ({"output": "open"}, r"the shape of output 'output_1' depends on values"),
            ({"address": "refused"}, r"does not take an address for 'output_1'"),
            ({"profiles": [{"input_1": ((1, 4), (1, 4), (2, 4))}]}, r"shape \(8, 4\), the engine was built for \(1, 4\)"
             r" to \(2, 4\); give that, or widen the recipe"),
            ({"profiles": [WIDE] * 2, "profile": "refused"}, r"does not take profile 0"),
        ],
    )  # fmt: skip
    def test_runs_that_fail_leave_a_runner_that_can_be_closed(self, changes: dict[str, Any], message: str) -> None:
        cuda = RecordingCuda()
        runner = opened(cuda, plan(**changes))
        for _ in range(2):
            with pytest.raises(EngineError, match=message):
                runner.run([IMAGES])
        runner.close()
        assert cuda.live == set()

    def test_profiles_that_do_not_fit_together(self) -> None:
        cuda = RecordingCuda()
        tensors = {"input_1": (4, "FLOAT"), "input_2": (4, "FLOAT"), "output_1": (3, "FLOAT")}
        one, many = ((1, 4), (1, 4), (1, 4)), ((8, 4), (8, 4), (8, 4))
        profiles = ({"input_1": one, "input_2": many}, {"input_1": many, "input_2": one})
        engine = loaded(FakeTensorRT(cuda), plan(tensors=tensors, profiles=profiles))
        inputs = (*INPUTS, Binding("other", "input_2", "float32"))
        runner = TensorRTRunner(cuda, engine, inputs, OUTPUTS, GPU)
        with pytest.raises(EngineError, match=r"no profile of the engine takes shapes \(8, 4\), \(8, 4\) together"):
            runner.run([IMAGES, IMAGES])
        runner.close()

    def test_an_engine_that_is_none(self) -> None:
        trt = FakeTensorRT(RecordingCuda())
        assert deserialize(trt, b"rubbish", host_code=False) == "Serialization assertion magicTagRead failed"

    def test_code_of_the_host_is_allowed_when_it_is_asked_for(self) -> None:
        trt = FakeTensorRT(RecordingCuda())
        for host_code in (False, True):
            deserialize(trt, plan(), host_code=host_code)
        assert trt.host_code == [False, True]


class TestFreeing:
    def test_close_frees_everything_once(self) -> None:
        cuda = RecordingCuda()
        trt = FakeTensorRT(cuda)
        runner = TensorRTRunner(cuda, loaded(trt, plan()), INPUTS, OUTPUTS, GPU)
        for _ in range(3):
            runner.run([IMAGES])
            runner.timed_run([IMAGES])
        assert len(trt.live) == 2
        runner.close()
        runner.close()
        gc.collect()
        assert (cuda.live, cuda.closed, len(trt.live)) == (set(), 1, 0)
        assert cuda.calls[-1] == "close"
        assert cuda.calls.index("destroy_executable") < cuda.calls.index("free_pinned")
        assert cuda.calls[-2] == "destroy_stream"

    def test_nothing_leaks_wherever_cuda_fails(self) -> None:
        """Whichever call fails, at opening, running or closing, everything that was taken is given back."""
        for fail_at in itertools.count(1):
            cuda = RecordingCuda(fail_at=fail_at)
            failed = _live(cuda)
            assert cuda.live == set(), f"after failure {fail_at}, {cuda.failed}"
            if cuda.failed is None:
                break
            assert failed or cuda.failed in CAPTURING, f"failure {fail_at}, {cuda.failed}, was not told"
        assert fail_at > 60

    def test_a_runner_recovers_from_one_failure(self) -> None:
        for fail_at in range(3, 20):
            cuda = RecordingCuda(fail_at=fail_at)
            runner = opened(cuda)
            for _ in range(4):
                with suppress(EngineError):
                    runner.run([IMAGES])
            np.testing.assert_allclose(runner.run([IMAGES])[0], expected(IMAGES), atol=1e-6)
            runner.close()
            assert cuda.live == set()


def _live(cuda: RecordingCuda) -> bool:
    """A whole life: open, runs of two shapes, stages, close. True when an error came out of it."""
    try:
        runner = opened(cuda)
    except EngineError:
        return True
    failed = False
    for images in (IMAGES, IMAGES, IMAGES[:2], IMAGES[:2]):
        for run in (runner.run, runner.timed_run):
            try:
                run([images])
            except EngineError:
                failed = True
    try:
        runner.close()
    except EngineError:
        failed = True
    return failed
