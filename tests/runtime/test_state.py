"""State in tensors, which the session hands on: streams of their own over one opened model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.bundle import Bundle, write_bundle
from edgekit.cli.top import top_classes
from edgekit.errors import BundleError, DataError, EngineError
from edgekit.manifest import Binding, State, StateTensor, Variant
from edgekit.runtime import Session, open_bundle
from edgekit.runtime.golden import check_golden, read_golden
from edgekit.runtime.sequences import run_samples
from edgekit.tensors import Quantization
from tests.tiny_models import IMAGES, Part, float_tflite, manifest_of, pack, parts


def summing_onnx(dtype: int = TensorProto.FLOAT) -> bytes:
    """scores = (everything seen so far)[:, :3]; the sum comes in and goes out."""
    names = [("input_1", dtype, 4), ("sum_in", dtype, 4)], [("output_1", dtype, 3), ("sum_out", dtype, 4)]
    takes, gives = (
        [helper.make_tensor_value_info(name, kind, [1, size]) for name, kind, size in side] for side in names
    )
    bounds = [
        helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in (("a", 0), ("b", 3), ("c", 1))
    ]
    nodes = [
        helper.make_node("Add", ["input_1", "sum_in"], ["sum_out"]),
        helper.make_node("Slice", ["sum_out", "a", "b", "c"], ["output_1"]),
    ]
    graph = helper.make_graph(nodes, "summing", takes, gives, bounds)
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def summing(**changes: object) -> Part:
    return StatefulPart("onnx", "fp32", summing_onnx(), "onnxruntime", **changes)  # type: ignore[arg-type]


def tensor(taken: Quantization | None = None, given: Quantization | None = None, dtype: str = "float32") -> StateTensor:
    return StateTensor(Binding("sum_in", "sum_in", dtype, taken), Binding("sum_out", "sum_out", dtype, given), (1, 4))


PLAIN = State((tensor(),))


@dataclasses.dataclass(frozen=True)
class StatefulPart(Part):
    state: State = PLAIN

    def variant(self) -> Variant:
        return dataclasses.replace(super().variant(), state=self.state)


def running_sums(images: np.ndarray) -> np.ndarray:
    return np.cumsum(images, axis=0)[:, :3]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return pack(tmp_path, (summing(),), golden={"scores": running_sums(IMAGES)})


@pytest.fixture
def session(bundle: Path) -> Session:
    return open_bundle(bundle)


def step(session: Session, index: int) -> np.ndarray:
    return session.run({"image": IMAGES[index : index + 1]})["scores"]


class TestOneStream:
    def test_each_call_goes_on(self, session: Session) -> None:
        assert session.stateful
        assert [spec.name for spec in session.inputs] == ["image"]
        for index, wanted in enumerate(running_sums(IMAGES)):
            np.testing.assert_allclose(step(session, index)[0], wanted, atol=1e-5)

    def test_samples_of_one_run_are_steps(self, session: Session) -> None:
        np.testing.assert_allclose(session.run({"image": IMAGES})["scores"], running_sums(IMAGES), atol=1e-5)

    def test_a_batch_keeps_its_order(self, session: Session) -> None:
        results = session.run_batch([{"image": IMAGES[:1]}, {"image": IMAGES[1:2]}])
        np.testing.assert_allclose(results[1]["scores"], running_sums(IMAGES)[1:2], atol=1e-6)

    def test_submitted_runs_are_steps_too(self, session: Session) -> None:
        pending = [session.submit({"image": IMAGES[index : index + 1]}) for index in range(8)]
        np.testing.assert_allclose(pending[-1].result(30)["scores"], running_sums(IMAGES)[-1:], atol=1e-5)
        session.close()

    def test_results_in_the_callers_arrays(self, session: Session) -> None:
        out = {"scores": np.zeros((1, 3), np.float32)}
        for index in range(2):
            session.run({"image": IMAGES[index : index + 1]}, out=out)
        np.testing.assert_allclose(out["scores"], running_sums(IMAGES)[1:2], atol=1e-6)

    def test_beginning_anew(self, session: Session) -> None:
        first = step(session, 0)
        step(session, 1)
        session.reset_state()
        np.testing.assert_array_equal(step(session, 0), first)

    def test_a_run_that_fails_leaves_the_state(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        step(session, 0)
        with monkeypatch.context() as broken:
            broken.setattr(session._runner._shared.runner, "run", lambda arrays: 1 / 0)  # type: ignore[union-attr]
            with pytest.raises(ZeroDivisionError):
                step(session, 1)
        np.testing.assert_allclose(step(session, 1)[0], running_sums(IMAGES)[1], atol=1e-6)

    def test_the_golden_outputs_are_a_stream_from_the_beginning(self, bundle: Path) -> None:
        with Bundle.open(bundle) as opened, open_bundle(bundle) as session:
            step(session, 3)
            assert check_golden(session, read_golden(opened), limit=1e-5).passed


class TestStreams:
    def test_they_know_nothing_of_each_other(self, session: Session) -> None:
        others = [session.new_stream() for _ in range(3)]
        step(session, 7)
        for index, wanted in enumerate(running_sums(IMAGES)):
            for stream in others:
                np.testing.assert_allclose(step(stream, index)[0], wanted, atol=1e-5)
        others[0].reset_state()
        np.testing.assert_allclose(step(others[1], 0)[0], (IMAGES.sum(axis=0) + IMAGES[0])[:3], atol=1e-5)

    def test_the_model_is_freed_with_the_last(self, session: Session) -> None:
        inner = session._runner._shared.runner  # type: ignore[union-attr]
        stream = session.new_stream()
        session.close()
        session.close()
        with pytest.raises(EngineError, match="the session is closed"):
            step(session, 0)
        np.testing.assert_allclose(step(stream, 0), IMAGES[:1, :3])
        assert inner._session is not None
        stream.close()
        assert inner._session is None

    def test_a_closed_session_begins_none(self, session: Session) -> None:
        session.close()
        for ask in (session.new_stream, session.reset_state):
            with pytest.raises(EngineError, match="the session is closed"):
                ask()

    def test_a_model_without_state(self, tiny_bundle: Path) -> None:
        with open_bundle(tiny_bundle) as session:
            assert not session.stateful
            for ask in (session.new_stream, session.reset_state):
                with pytest.raises(EngineError, match="variant 'tflite-int8' keeps no state from call to call"):
                    ask()


class TestIntegers:
    def test_state_begins_at_the_zero_point(self, tmp_path: Path) -> None:
        """What stands for 0 differs from 0, and each end may have a scale of its own."""
        quantization = Quantization(0.1, 5)
        other = Quantization(0.2, -3)
        part = StatefulPart(
            "onnx", "int8", summing_onnx(TensorProto.INT32), "onnxruntime", "int32",
            state=State((tensor(quantization, other, "int32"),)),
        )  # fmt: skip
        with open_bundle(pack(tmp_path, (part,))) as session:
            raw = {"image": np.array([[1, 2, 3, 4]], np.int32)}
            first = session.run(raw, raw=True)["scores"]
            second = session.run(raw, raw=True)["scores"]
        np.testing.assert_array_equal(first, [[6, 7, 8]])  # 5 stands for 0
        went_in = quantization.quantize(other.dequantize(first), "int32")
        np.testing.assert_array_equal(second, np.add(went_in, [[1, 2, 3]]))


SEQUENCES = IMAGES.reshape(2, 4, 4)
SUMS = np.stack([running_sums(steps) for steps in SEQUENCES])


class TestSequences:
    """Samples of several steps, each from the beginning."""

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        return pack(tmp_path, (summing(),), golden={"scores": SUMS}, steps=4)

    def test_each_begins_anew(self, session: Session) -> None:
        step(session, 3)
        outputs = run_samples(session, {"image": SEQUENCES})
        np.testing.assert_allclose(outputs["scores"], SUMS, atol=1e-5)
        best = top_classes(outputs, None, 1)  # after the last step
        assert [ranked.index for (ranked,) in best] == SUMS[:, -1].argmax(axis=1).tolist()

    def test_single_steps_go_on(self, session: Session) -> None:
        for index, wanted in enumerate(running_sums(IMAGES)):
            scores = run_samples(session, {"image": IMAGES[index : index + 1]})["scores"]
            np.testing.assert_allclose(scores[0], wanted, atol=1e-5)

    def test_golden_sequences(self, bundle: Path, session: Session) -> None:
        with Bundle.open(bundle) as opened:
            vectors = read_golden(opened)
            assert (opened.manifest.golden.samples, opened.manifest.golden.steps) == (2, 4)
        result = check_golden(session, vectors, limit=1e-5)
        assert (result.passed, result.samples, result.top1_agreement) == (True, 2, 1.0)
        assert vectors.first["image"].shape == (1, 4)
        wrong = dataclasses.replace(vectors, outputs={"scores": running_sums(IMAGES).reshape(2, 4, 3)})
        assert not check_golden(session, wrong, limit=1e-5).passed, "one stream is not two"

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (SEQUENCES[:0], "sequences: there are none, expected at least 1"),
            (SEQUENCES[:, :, :3], r"'image' has shape \(2, 4, 3\) float32, expected \(batch, \?, 4\) float32"),
        ],
    )
    def test_sequences_that_are_none(self, session: Session, images: np.ndarray, message: str) -> None:
        with pytest.raises(DataError, match=message):
            run_samples(session, {"image": images})

    def test_a_model_without_state_has_no_steps(self, tmp_path: Path) -> None:
        with open_bundle(pack(tmp_path)) as session, pytest.raises(DataError, match="'image' has shape"):
            run_samples(session, {"image": SEQUENCES})

    @pytest.mark.parametrize("steps", [3, 2])
    def test_a_manifest_with_other_steps_than_the_vectors(self, bundle: Path, steps: int) -> None:
        with Bundle.open(bundle) as opened:
            golden = dataclasses.replace(opened.manifest.golden, steps=steps)
            opened.manifest = dataclasses.replace(opened.manifest, golden=golden)
            with pytest.raises(BundleError, match=f"has shape .*, expected {steps} steps in each sample"):
                read_golden(opened)

    @pytest.mark.parametrize(
        ("contents", "steps", "message"),
        [
            ((summing(),), 0, "the golden samples have 0 steps, expected 1 or more"),
            (None, 4, "the golden samples are sequences, and variant 'tflite-fp32' keeps no state"),
        ],
    )
    def test_steps_that_cannot_be(
        self, tmp_path: Path, contents: tuple[Part, ...] | None, steps: int, message: str
    ) -> None:
        chosen = parts() if contents is None else contents
        manifest = manifest_of(tuple(part.variant() for part in chosen), b"", steps=steps)
        with pytest.raises(BundleError, match=message):
            write_bundle(tmp_path / "x.edgekit", manifest, {})


class TestBundles:
    @pytest.mark.parametrize(
        ("state", "message"),
        [
            (State((dataclasses.replace(tensor(), shape=(1, 0)),)), r"state 'sum_in' has shape \(1, 0\)"),
            (State((tensor(), tensor())), "tensors that are taken include 'sum_in' 2 times"),
            (
                State((dataclasses.replace(tensor(), taken=Binding("x", "input_1", "float32")),)),
                "tensors that are taken include 'input_1' 2 times",
            ),
            (State((tensor(dtype="float31"),)), "'sum_in' has dtype 'float31'; did you mean"),
        ],
    )
    def test_a_state_that_cannot_be(self, tmp_path: Path, state: State, message: str) -> None:
        with pytest.raises(BundleError, match=message):
            pack(tmp_path, (summing(state=state),))

    def test_a_state_that_is_not_the_files(self, tmp_path: Path) -> None:
        wide = State((dataclasses.replace(tensor(), shape=(1, 9)),))
        with pytest.raises(EngineError, match=r"state 'sum_in' has shape \(1, 4\), the manifest says \(1, 9\)"):
            open_bundle(pack(tmp_path, (summing(state=wide),)))
        part = StatefulPart("tflite", "fp32", float_tflite(), "litert")
        with pytest.raises(EngineError, match="the model has no input tensor 'sum_in' for 'sum_in'"):
            open_bundle(pack(tmp_path, (part,)))
