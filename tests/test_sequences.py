"""A model with state, run over whole sequences and built into a bundle that keeps its state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import edgekit
from edgekit.cli import main
from edgekit.devices.testing import TestOptions as DeviceTestOptions
from edgekit.devices.testing import run_device_tests
from edgekit.errors import ConfigError, DataError, EdgekitError, ModelError
from edgekit.evaluation import top1
from edgekit.loading import describe
from edgekit.pipeline import Build
from edgekit.runtime import open_bundle
from edgekit.serving.models import Capacity, opened_models
from edgekit.sides import Sides
from edgekit.states import states_of

SAMPLES, STEPS, FEATURES, CLASSES = 24, 6, 3, 4
PRECISIONS = ["fp32", "dynamic-int8", "int8"]


@keras.saving.register_keras_serializable("tests")
class ConvolutionCell(layers.Layer):
    """A causal convolution over time, which keeps the frames that it still needs."""

    def __init__(self, features: int, filters: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features, self.filters, self.width = features, filters, width
        self.state_size, self.output_size = (width - 1) * features, filters

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(self.width * self.features, self.filters))

    def call(self, frame: Any, states: Any) -> Any:
        seen = ops.concatenate([states[0], frame], axis=-1)
        return ops.relu(ops.matmul(seen, self.kernel)), [seen[:, self.features :]]

    def get_config(self) -> dict[str, Any]:
        own = {"features": self.features, "filters": self.filters, "width": self.width}
        return {**super().get_config(), **own}


def network(*, stateful: bool, batch: int | None = None, steps: int = STEPS) -> Any:
    """A convolution over time and a GRU, on whole sequences, or on one step in each call."""
    keeps = {"stateful": stateful, "unroll": stateful}
    x = keras.Input(batch_shape=(1, 1, FEATURES) if stateful else (batch, steps, FEATURES), name="motion")
    frames = layers.RNN(ConvolutionCell(FEATURES, 5, 3), return_sequences=True, name="frames", **keeps)(x)
    outputs = layers.Dense(CLASSES, name="scores")(layers.GRU(6, name="gru", **keeps)(frames))
    return keras.Model(x, outputs, name="stream")


@pytest.fixture(scope="module")
def sequences() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(SAMPLES, STEPS, FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(sequences: np.ndarray) -> Any:
    """With scores that are 0 on average, so that every class is somebody's."""
    model = network(stateful=False)
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(0, 0.6, weight.shape) for weight in model.get_weights()])
    bias = model.get_layer("scores").bias
    bias.assign(bias - model.predict(sequences, verbose=0).mean(axis=0))
    return model


@pytest.fixture(scope="module")
def streaming(whole: Any) -> Any:
    model = network(stateful=True)
    model.set_weights(whole.get_weights())
    return model


@pytest.fixture(scope="module")
def data(whole: Any, sequences: np.ndarray) -> dict[str, np.ndarray]:
    """(samples, steps, 1, features); labels are what the float model says at the end."""
    return {"motion": sequences[:, :, None], "y": whole.predict(sequences, verbose=0).argmax(axis=1)}


@pytest.fixture(scope="module")
def built(streaming: Any, data: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Build:
    return edgekit.build(
        streaming, targets={"local": PRECISIONS}, evaluation=data, calibration=data, metadata={},
        output=tmp_path_factory.mktemp("built") / "stream-1.0.edgekit",
    )  # fmt: skip


class TestKeras:
    def test_whole_sequences_step_by_step(self, whole: Any, streaming: Any, data: dict[str, np.ndarray]) -> None:
        loaded = describe(streaming)
        assert loaded.stateful
        assert not describe(whole).stateful
        outputs = loaded.predict({"motion": data["motion"]})["scores"]
        assert outputs.shape == (SAMPLES, STEPS, CLASSES)
        np.testing.assert_allclose(outputs[:, -1], whole.predict(data["motion"][:, :, 0], verbose=0), atol=1e-5)

    def test_the_model_is_left_as_it_was(self, streaming: Any, data: dict[str, np.ndarray]) -> None:
        for state in states_of(streaming):
            state.variable.assign(state.variable.numpy() + 1)
        before = [state.variable.numpy() for state in states_of(streaming)]
        describe(streaming).predict({"motion": data["motion"]})
        for state, value in zip(states_of(streaming), before, strict=True):
            np.testing.assert_array_equal(state.variable.numpy(), value)

    def test_single_steps_begin_with_the_states_that_the_ones_before_left(
        self, streaming: Any, data: dict[str, np.ndarray]
    ) -> None:
        steps = describe(streaming).single_steps({"motion": data["motion"]})
        assert {name: array.shape for name, array in steps.items()} == {
            "motion": (SAMPLES * STEPS, 1, FEATURES),
            "frames_state0_in": (SAMPLES * STEPS, 2 * FEATURES),
            "gru_h_in": (SAMPLES * STEPS, 6),
        }
        kept = steps["frames_state0_in"].reshape(SAMPLES, STEPS, 2, FEATURES)
        np.testing.assert_array_equal(kept[:, 0], 0)
        np.testing.assert_array_equal(kept[:, 3], data["motion"][:, 1:3, 0])


class TestBundle:
    def test_every_variant_keeps_its_state(self, built: Build) -> None:
        assert (built.manifest.golden.samples, built.manifest.golden.steps) == (8, STEPS)
        assert [variant.precision for variant in built.manifest.variants if variant.format == "tflite"] == PRECISIONS
        assert {variant.format for variant in built.manifest.variants} == {"tflite", "onnx"}
        for variant in built.manifest.variants:
            assert [binding.name for binding in variant.inputs] == ["motion"]
            assert [binding.name for binding in variant.outputs] == ["scores"]
            assert variant.state is not None
            shapes = {tensor.taken.name: tensor.shape for tensor in variant.state.tensors}
            assert shapes == {"frames_state0_in": (1, 2 * FEATURES), "gru_h_in": (1, 6)}

    @pytest.mark.parametrize("engine", ["tflite", "onnx"])
    def test_streaming_equals_whole_sequences(
        self, built: Build, whole: Any, data: dict[str, np.ndarray], engine: str
    ) -> None:
        with open_bundle(built.bundle, variant=f"{engine}-fp32") as session:
            for sequence in data["motion"][:3]:
                session.reset_state()
                answers = [session.run({"motion": step[None]})["scores"] for step in sequence]
                wanted = whole.predict(sequence[None, :, 0], verbose=0)
                np.testing.assert_allclose(answers[-1], wanted, atol=1e-5)

    def test_it_was_measured_and_tested_by_sequences(self, built: Build) -> None:
        report = built.report
        assert report.device_tests.failed == 0
        assert report.device_tests.passed > 0
        assert all(golden.passed for golden in report.golden)
        found = {entry.variant: entry for entry in report.parity}
        assert found["tflite-fp32"].max_abs < 1e-5
        for precision in ("dynamic-int8", "int8"):
            assert found[f"tflite-{precision}"].snr_db > 20
        assert next(item for item in report.variants if item.id == "tflite-fp32").metric == 1.0
        looked_into = {entry.variant: entry for entry in report.layers}
        assert looked_into["tflite-int8"].samples == 4
        assert any(layer.snr_db is not None for layer in looked_into["tflite-int8"].layers)
        assert all(sample.picture is None for sample in report.samples)

    def test_accuracy_on_the_device_is_that_of_sequences(
        self, built: Build, data: dict[str, np.ndarray], tmp_path: Path
    ) -> None:
        np.savez(tmp_path / "test.npz", **data)
        options = DeviceTestOptions(evaluation=str(tmp_path / "test.npz"))
        outcome = run_device_tests(built.bundle, "local:", options=options, select="not faults and not latency")
        assert outcome.failed == 0
        (device,) = outcome.report["devices"]
        assert {name: figures["metric_samples"] for name, figures in device["figures"].items()} == {
            item.id: SAMPLES for item in built.manifest.variants
        }

    def test_run_takes_sequences_and_prints_what_they_end_with(
        self, built: Build, data: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.savez(tmp_path / "x.npz", motion=data["motion"][:2])
        assert main(["run", str(built.bundle), "--input", str(tmp_path / "x.npz"), "--top", "1", "--json"]) == 0
        top = json.loads(capsys.readouterr().out)["top"]
        assert [sample[0]["index"] for sample in top] == data["y"][:2].tolist()

    def test_a_server_and_a_comparison_refuse_it(self, built: Build, tmp_path: Path) -> None:
        with (
            pytest.raises(ConfigError, match=r"stream-1.0.edgekit: '.*' keeps state .* requests come from several"),
            opened_models([built.bundle], Capacity()),
        ):
            pass
        side = f"{built.bundle}#tflite-fp32"
        with pytest.raises(ModelError, match="#tflite-fp32 keeps state from call to call, and what is compared"):
            Sides(side, side, tmp_path, architecture=None, allow_code=False)


def refused(error: type[EdgekitError], model: Any, data: dict[str, np.ndarray], output: Path, **more: Any) -> str:
    settings = {"targets": {"android-arm64": ["fp32"]}, "evaluation": data, "calibration": data, **more}
    with pytest.raises(error) as caught:
        edgekit.build(model, output=output / "stream-1.0.edgekit", **settings)
    assert list(output.iterdir()) == []
    return str(caught.value)


def test_compression_is_for_the_model_of_whole_sequences(
    streaming: Any, data: dict[str, np.ndarray], tmp_path: Path
) -> None:
    said = refused(ConfigError, streaming, data, tmp_path, recipe=[edgekit.QuantizeWeights(bits=8)])
    assert "'stream' keeps state from call to call, and compression trains on samples" in said


def test_samples_without_steps(streaming: Any, data: dict[str, np.ndarray], tmp_path: Path) -> None:
    said = refused(DataError, streaming, {**data, "motion": data["motion"][:, 0]}, tmp_path)
    assert "'motion' has shape (24, 1, 3) float32, expected (batch, ?, 1, 3) float32" in said
    assert "samples, then their steps" in said


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((SAMPLES, STEPS - 1), int), f"'y' has {STEPS - 1} steps, 'motion' has {STEPS}: give as many of each"),
        (np.zeros((SAMPLES, STEPS, 2), int), "expected (samples,) or (samples, steps) of whole class numbers"),
        (np.full((SAMPLES, STEPS), CLASSES), f"label {CLASSES} in sample 0, expected 0 to {CLASSES - 1}"),
    ],
)
def test_labels_that_do_not_fit_the_steps(
    streaming: Any, data: dict[str, np.ndarray], tmp_path: Path, labels: np.ndarray, message: str
) -> None:
    assert message in refused(DataError, streaming, {**data, "y": labels}, tmp_path)


def test_top1_counts_the_end_or_every_step() -> None:
    scores = {"scores": np.eye(2)[[[0, 1], [1, 0]]]}
    assert top1(scores, np.array([1, 1])) == 0.5
    assert top1(scores, np.array([[0, 1], [0, 0]])) == 0.75
