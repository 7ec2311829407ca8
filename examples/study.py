"""What the examples share: a subject to compress, plain Keras training, and figures measured through edgekit's doors.

Accuracy is on held-back data, of the Keras model and of the converted int8 TFLite file; latency is measured with the
files of a comparison in turns, in one process.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any  # Any: keras models

import numpy as np

import edgekit
from edgekit.bundle import Bundle
from edgekit.data import Data
from edgekit.files import write_text
from edgekit.loading import LoadedModel, import_keras, load
from edgekit.runtime.timing import measure

BATCH = 64
WARMUP, RUNS = 50, 400


@dataclass(frozen=True)
class Lesson:
    """How long and how fast a model is trained."""

    epochs: int
    learning_rate: float  # at the start


@dataclass(frozen=True)
class Subject:
    """A data set and the model that a user would have trained on it."""

    name: str
    train: Data
    test: Data
    make: Callable[[], Any]  # an untrained keras model
    lesson: Lesson
    small: Callable[[], Any]  # an untrained student
    small_lesson: Lesson


@dataclass(frozen=True)
class Figures:
    """What one recipe came to. Accuracies are fractions of the held-back samples."""

    parameters: int
    sparsity: float
    keras_accuracy: float
    int8_accuracy: float
    int8_bytes: int
    zipped_bytes: int  # the int8 file, deflated as the bundle does


def train(data: Data, make: Callable[[], Any], lesson: Lesson, seed: int) -> LoadedModel:
    """Plain Keras, as the user did it before edgekit came: Adam, cosine decay. The seed is set before `make`."""
    model = seeded(make, seed)
    keras = import_keras()
    steps = lesson.epochs * -(-len(data) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(lesson.learning_rate, steps)
    logits = getattr(model.layers[-1].activation, "__name__", "") != "softmax"
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=logits))
    (features,) = data.inputs.values()
    model.fit(features, data.need_labels(), batch_size=BATCH, epochs=lesson.epochs, verbose=0)
    return load(model)


def seeded(make: Callable[[], Any], seed: int) -> Any:
    """An untrained model whose first weights are a function of the seed."""
    import_keras().utils.set_random_seed(seed)
    return make()


def figures(subject: Subject, model: LoadedModel, folder: Path) -> Figures:
    """Build a bundle with one int8 TFLite file into `folder`, and say what it came to."""
    bundle = folder / f"{subject.name}-1.0.0.edgekit"
    built = edgekit.build(
        model, targets={"local": ["int8"]}, calibration=subject.train, evaluation=subject.test, output=bundle
    )
    variant = next(item for item in built.report.variants if item.format == "tflite")
    assert variant.metric is not None  # measured by every build
    with Bundle.open(bundle) as opened:
        zipped = len(zlib.compress(opened.read(variant.member), 9))
    return Figures(
        model.parameters, model.sparsity, accuracy(model, subject.test), variant.metric, variant.bytes, zipped
    )


def accuracy(model: LoadedModel, data: Data) -> float:
    """Top-1 of a Keras model."""
    (scores,) = model.predict(data.inputs).values()
    return float(np.mean(scores.argmax(axis=-1) == data.need_labels()))


def latencies_ms(variants: Mapping[str, tuple[Path, str]]) -> dict[str, float]:
    """Median latency of variants, each given as (bundle, variant id): one thread, in turns in one process."""
    sessions = {name: edgekit.open_bundle(path, variant=variant) for name, (path, variant) in variants.items()}
    calls = {name: partial(session.run, session.sample()) for name, session in sessions.items()}
    timings = measure(calls, warmup=WARMUP, runs=RUNS)
    for session in sessions.values():
        session.close()
    return {name: timing.median_ms for name, timing in timings.items()}


class Notebook:
    """Figures in a JSON file, written after each one, so that a stopped study goes on where it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def once(self, key: str, work: Callable[[], Any]) -> Any:
        """The entry under this key; `work` makes it when there is none."""
        if key not in self._entries:
            value = work()
            self._entries[key] = asdict(value) if isinstance(value, Figures) else value
            write_text(self._path, json.dumps(self._entries, indent=1, sort_keys=True) + "\n")
            print(f"{key}: {self._entries[key]}", flush=True)
        return self._entries[key]
