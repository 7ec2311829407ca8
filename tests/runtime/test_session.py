from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import DataError, EngineError
from edgekit.runtime import Session, open_bundle
from tests.tiny_models import IMAGES, INPUT_QUANTIZATION, INPUTS, OUTPUT_QUANTIZATION, OUTPUTS, SOUNDS, expected, pack

VARIANTS = ["tflite-fp32", "tflite-int8", "onnx-fp32"]
FLOAT_VARIANTS = ["tflite-fp32", "onnx-fp32"]


@pytest.fixture(params=VARIANTS)
def session(request: pytest.FixtureRequest, tiny_bundle: Path) -> Session:
    return open_bundle(tiny_bundle, variant=request.param)


def opened(bundle: Path, variant: str) -> Session:
    return open_bundle(bundle, variant=variant)


class TestRunning:
    def test_inputs_and_outputs_have_the_keras_names(self, session: Session) -> None:
        assert session.inputs == tuple(item.spec for item in INPUTS)
        assert session.outputs == OUTPUTS

    @pytest.mark.parametrize("count", [1, 2, 8])
    def test_any_batch_in_float(self, session: Session, count: int) -> None:
        scores = session.run({"image": IMAGES[:count]})["scores"]
        assert scores.dtype == np.float32
        assert scores.shape == (count, 3)
        tolerance = 0.02 if session.choice.variant == "tflite-int8" else 1e-6
        np.testing.assert_allclose(scores, expected(IMAGES[:count]), atol=tolerance)

    def test_a_batch_is_its_samples_one_by_one(self, session: Session) -> None:
        whole = session.run({"image": IMAGES})["scores"]
        single = [session.run({"image": IMAGES[index : index + 1]})["scores"] for index in range(len(IMAGES))]
        np.testing.assert_allclose(whole, np.concatenate(single), atol=1e-6)

    def test_outputs_are_the_callers_own(self, session: Session) -> None:
        first = session.run({"image": IMAGES[:1]})["scores"]
        kept = first.copy()
        session.run({"image": IMAGES[1:2]})
        np.testing.assert_array_equal(first, kept)

    def test_inputs_are_left_alone(self, session: Session) -> None:
        image = IMAGES[:1].copy()
        image.flags.writeable = False
        session.run({"image": image})
        np.testing.assert_array_equal(image, IMAGES[:1])

    def test_an_array_with_gaps(self, session: Session) -> None:
        wide = np.zeros((1, 8), np.float32)
        wide[:, ::2] = IMAGES[:1]
        result = session.run({"image": wide[:, ::2]})["scores"]
        np.testing.assert_array_equal(result, session.run({"image": IMAGES[:1]})["scores"])

    def test_raw_is_the_files_own_numbers(self, tiny_bundle: Path) -> None:
        with opened(tiny_bundle, "tflite-int8") as session:
            stored = INPUT_QUANTIZATION.quantize(IMAGES, "int8")
            raw = session.run({"image": stored}, raw=True)["scores"]
            assert raw.dtype == np.int8
            real = session.run({"image": IMAGES})["scores"]
            np.testing.assert_array_equal(OUTPUT_QUANTIZATION.dequantize(raw), real)

    def test_threads_of_the_caller_take_turns(self, session: Session) -> None:
        wanted = [session.run({"image": IMAGES[index : index + 1]})["scores"] for index in range(8)]
        wrong: list[int] = []

        def work(index: int) -> None:
            for _ in range(200):
                if not np.array_equal(session.run({"image": IMAGES[index : index + 1]})["scores"], wanted[index]):
                    wrong.append(index)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


class TestMistakes:
    def refused(self, session: Session, inputs: object, message: str, *, raw: bool = False) -> None:
        with pytest.raises(DataError, match=message):
            session.run(inputs, raw=raw)  # type: ignore[arg-type]

    def test_an_unknown_name(self, session: Session) -> None:
        self.refused(session, {"imag": IMAGES}, r"tiny-1.0.0.edgekit: unknown input 'imag'; did you mean 'image'\?")

    def test_a_missing_name(self, session: Session) -> None:
        self.refused(session, {}, r"missing input 'image' \(batch, 4\) float32")

    def test_one_name_too_many(self, session: Session) -> None:
        self.refused(session, {"image": IMAGES, "extra": IMAGES}, r"unknown input 'extra'")

    def test_a_wrong_shape(self, session: Session) -> None:
        message = r"'image' has shape \(1, 5\) float32, expected \(batch, 4\) float32"
        self.refused(session, {"image": np.zeros((1, 5), np.float32)}, message)

    def test_a_wrong_rank(self, session: Session) -> None:
        self.refused(session, {"image": np.zeros(4, np.float32)}, r"'image' has shape \(4,\)")

    @pytest.mark.parametrize("dtype", ["float64", "int8", "uint8", ">f4"])
    def test_a_wrong_dtype(self, session: Session, dtype: str) -> None:
        self.refused(session, {"image": np.zeros((1, 4), dtype)}, r"expected \(batch, 4\) float32")

    def test_no_array(self, session: Session) -> None:
        self.refused(session, {"image": [[0, 0, 0, 0]]}, r"'image' is a list, expected a numpy array")

    def test_no_sample(self, session: Session) -> None:
        self.refused(session, {"image": IMAGES[:0]}, r"at least 1; got 'image' 0")

    def test_float_where_raw_was_said(self, tiny_bundle: Path) -> None:
        with opened(tiny_bundle, "tflite-int8") as session:
            self.refused(session, {"image": IMAGES}, r"expected \(batch, 4\) int8", raw=True)

    def test_nan_into_an_integer_input(self, tiny_bundle: Path) -> None:
        with opened(tiny_bundle, "tflite-int8") as session:
            self.refused(session, {"image": np.full((1, 4), np.nan, np.float32)}, r"'image' holds NaN, which int8")
            assert np.isfinite(session.run({"image": IMAGES[:1]})["scores"]).all()

    @pytest.mark.parametrize("variant", FLOAT_VARIANTS)
    def test_nan_into_a_float_input_comes_out(self, tiny_bundle: Path, variant: str) -> None:
        with opened(tiny_bundle, variant) as session:
            assert np.isnan(session.run({"image": np.full((1, 4), np.nan, np.float32)})["scores"]).all()

    def test_infinity_saturates_an_integer_input(self, tiny_bundle: Path) -> None:
        with opened(tiny_bundle, "tflite-int8") as session:
            infinite = session.run({"image": np.full((1, 4), np.inf, np.float32)})["scores"]
            np.testing.assert_array_equal(infinite, session.run({"image": np.ones((1, 4), np.float32)})["scores"])


class TestClosing:
    def test_use_after_close(self, session: Session) -> None:
        session.close()
        with pytest.raises(EngineError, match=r"tiny-1.0.0.edgekit: the session is closed"):
            session.run({"image": IMAGES})

    def test_closing_twice_is_harmless(self, session: Session) -> None:
        with session:
            session.close()
        session.close()


class TestBenchmark:
    def test_it_keeps_every_sample(self, session: Session) -> None:
        timing = session.benchmark(warmup=1, runs=50)
        assert (timing.warmup, timing.runs, len(timing.samples_ms)) == (1, 50, 50)
        assert 0 < timing.median_ms <= timing.p90_ms <= timing.p99_ms <= max(timing.samples_ms)

    def test_on_inputs_of_the_callers_own(self, session: Session) -> None:
        assert session.benchmark({"image": IMAGES}, warmup=0, runs=3).runs == 3


@pytest.mark.parametrize("wrong", [IMAGES, None, [IMAGES]])
def test_what_is_no_dict_is_refused_in_words(wrong: object, session: Session) -> None:
    with pytest.raises(DataError, match="run takes a dict of arrays by input name, got"):
        session.run(wrong)  # type: ignore[arg-type]


def test_raw_samples_become_what_run_takes(tmp_path: Path) -> None:
    samples = np.array([16384, -16384], np.int16)
    with open_bundle(pack(tmp_path, inputs=SOUNDS), variant="onnx-fp32") as session:
        ready = session.preprocess({"image": np.stack([samples, samples])})
        np.testing.assert_array_equal(ready["image"], np.array([[0.5, -0.5, 0, 0]] * 2, np.float32))
        np.testing.assert_allclose(session.run(ready)["scores"], expected(ready["image"]), atol=1e-6)
        with pytest.raises(DataError, match=r"tiny-1\.0\.0\.edgekit: unknown input 'imag'; did you mean 'image'"):
            session.preprocess({"imag": samples})


def test_nothing_is_prepared_where_nothing_is_declared(tmp_path: Path) -> None:
    with open_bundle(pack(tmp_path)) as session, pytest.raises(DataError, match="no preprocessing is declared"):
        session.preprocess({"image": IMAGES})
