"""Steps on several devices give what one device gives. Each test starts processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import edgekit
from edgekit.compression.training import TrainingSettings
from edgekit.errors import ConfigError, DataError
from tests.compression.conftest import Interrupting

TWO = TrainingSettings(engine="multi-worker", workers=2)


def model() -> Any:
    """Without BatchNormalization and Dropout, which see only a worker's own rows."""
    keras.utils.set_random_seed(0)
    image = x = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(x)
    return keras.Model(image, keras.layers.Dense(10, name="logits")(keras.layers.Flatten()(x)))


@pytest.fixture
def data(digits: Any) -> dict[str, np.ndarray]:
    return dict(digits.few(101))  # three batches of 32 and one of 5, which two workers share unequally


def weights(made: edgekit.LoadedModel) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in made.model.get_weights()]


def assert_close(got: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_two_workers_on_loopback_give_what_one_process_gives(data: dict[str, np.ndarray], tmp_path: Path) -> None:
    step = edgekit.Prune(0.5, epochs=2, batch_size=32)
    source, progress = model(), Interrupting()
    alone = edgekit.compress(source, step, data=data)
    together = edgekit.compress(
        source, step, data=data, training=TWO, progress=progress, checkpoints=tmp_path / "checkpoints"
    )
    assert_close(weights(together), weights(alone))
    moved = max(float(np.abs(a - b).max()) for a, b in zip(weights(alone), source.get_weights(), strict=True))
    assert moved > 1e-3
    assert together.sparsity == pytest.approx(0.5, abs=0.01)
    assert progress.tasks == ["prune to 50%"]
    assert progress.done == 8
    (folder,) = (tmp_path / "checkpoints").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["done.keras", "epoch-0002.npz"]


def test_averages_and_ranges_are_shared_besides_gradients(data: dict[str, np.ndarray]) -> None:
    """Every exchange has a length of its own: gradients, the ranges, a number for early stopping."""
    settings = TrainingSettings(patience=3)
    step = edgekit.QuantizeAware(epochs=2, batch_size=32)
    alone = edgekit.compress(model(), step, data=data, training=settings)
    together = edgekit.compress(model(), step, data=data, training=replace(settings, engine="multi-worker", workers=2))
    assert alone.activation_ranges is not None
    assert together.activation_ranges is not None
    for name, expected in alone.activation_ranges.items():
        np.testing.assert_allclose(together.activation_ranges[name], expected, rtol=0.05, atol=0.02)


def test_a_worker_that_fails_ends_the_others(data: dict[str, np.ndarray]) -> None:
    step = edgekit.Prune(0.5, epochs=2, batch_size=32, learning_rate=1e30)
    with pytest.raises(DataError, match=r"prune to 50%: the loss became nan in epoch \d; lower the learning_rate"):
        edgekit.compress(model(), step, data=data, training=TWO)


def test_mirrored_devices_give_what_one_device_gives(data: dict[str, np.ndarray], tmp_path: Path) -> None:
    """On two logical CPUs, in a process of its own, since a process has its devices for life."""
    model().save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", image=data["image"][:96], y=data["y"][:96])
    program = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np
import edgekit
from edgekit.compression.training import TrainingSettings
step = edgekit.Prune(0.5, epochs=2, batch_size=32)
made = [edgekit.compress("model.keras", step, data="data.npz", training=TrainingSettings(engine=engine))
        for engine in ("keras", "mirrored")]
kinds = {type(v.value).__name__ for each in made for v in each.model.variables}
pairs = zip(*[each.model.get_weights() for each in made])
print(json.dumps({"kinds": sorted(kinds), "gap": max(float(np.abs(a - b).max()) for a, b in pairs)}))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["kinds"] == ["ResourceVariable"]
    assert found["gap"] < 1e-5


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        ({"engine": "mirrored"}, None, r'engine = "mirrored" needs two GPUs or more, and TensorFlow sees one device'),
        ({"engine": "multi-worker"}, None, r'engine = "multi-worker" needs workers = 2 or more, or TF_CONFIG'),
        ({"engine": "multi-worker"}, "{", r"TF_CONFIG cannot be read .*; expected, for example, "),
        ({"engine": "multi-worker"}, '{"cluster": {}}', r"TF_CONFIG cannot be read .KeyError"),
        (
            {"engine": "multi-worker"},
            '{"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}',
            r"TF_CONFIG names 1 workers and task 0; expected 2 or more",
        ),
        (
            {"engine": "multi-worker", "workers": 2, "loss": lambda _y, p: p},
            None,
            r"sends the loss to other processes, and .*lambda.* cannot be sent",
        ),
    ],
)
def test_what_cannot_be_distributed(
    data: dict[str, np.ndarray],
    settings: dict[str, Any],
    environment: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if environment is not None:
        monkeypatch.setenv("TF_CONFIG", environment)
    step = edgekit.Prune(0.5, epochs=1)
    with pytest.raises(ConfigError, match=message):
        edgekit.compress(model(), step, data=data, training=TrainingSettings(**settings))


def test_the_tfmot_engine_is_not_distributed(data: dict[str, np.ndarray]) -> None:
    step = edgekit.Prune(0.5, epochs=1, engine="tfmot")
    with pytest.raises(ConfigError, match=r"step 'prune' has engine = \"tfmot\", which cannot train multi-worker"):
        edgekit.compress(model(), step, data=data, training=TWO)


def test_a_step_that_does_not_train_needs_no_workers(data: dict[str, np.ndarray]) -> None:
    made = edgekit.compress(model(), edgekit.Prune(0.5, epochs=0), training=TWO)
    assert made.sparsity == pytest.approx(0.5, abs=0.01)
