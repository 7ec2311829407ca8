"""What a step costs for each epoch, and how time and memory grow with the model.

    python benchmarks/training_cost.py [--rounds 3] [--sizes 0.1 1 10 100] [-o FILE.json]

Each step runs against a script that a user would write by hand in tf_keras (with TFMOT where it has the method), on the
same network, data, batch size and optimizer. Each is a process of its own, and they take turns: one trains an epoch
while the other waits. The first two epochs, which compile and fill caches, are left out; the median and the least of
the others count, the least because other work on the machine only adds. Peak memory is the process's largest resident
set. A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edgekit.runtime.memory import peak_rss_bytes
from examples.study import Notebook

BATCH = 64
# (fewer than so many million parameters, samples, epochs)
LESSONS = ((0.5, 12800, 12), (5, 3200, 16), (50, 640, 16), (float("inf"), 640, 6))
WARM_UP = 2  # epochs
RATE = 1e-3
FIGURES = Path(__file__).parents[1] / "examples" / "figures" / "training-cost.json"
Process = subprocess.Popen[str]
STEPS = ("prune", "cluster", "quantize-aware", "prune-channels", "distill")
SIDES = ("ours", "theirs")
TOO_LARGE = {("theirs", "cluster"): 50}  # million parameters from which on TFMOT takes more than 10 GB


def main() -> None:
    """Measure what is missing in the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.1, 1, 10, 100], help="millions of parameters")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("-o", "--output", type=Path, default=FIGURES)
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "STEP", "SIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        side, step, size = args.one
        _run_here(side, step, float(size))
        return
    notebook = Notebook(args.output)
    for size in args.sizes:
        for step in args.steps:
            notebook.once(f"{step} {size:g} M", partial(_compare, step, size, args.rounds))


def _compare(step: str, size: float, rounds: int) -> dict[str, object]:
    ran = [side for side in SIDES if size < TOO_LARGE.get((side, step), float("inf"))]
    epochs: dict[str, list[float]] = {side: [] for side in ran}
    memory: dict[str, list[float]] = {side: [] for side in ran}
    for _ in range(rounds):
        with ExitStack() as stack:
            sides = {side: stack.enter_context(_process(side, step, size)) for side in epochs}
            for epoch in range(_lesson(size)[1]):
                for side, process in sides.items():
                    seconds = _answer(process)["epoch_s"]
                    if epoch >= WARM_UP:
                        epochs[side].append(seconds)
            for side, process in sides.items():
                memory[side].append(_answer(process)["peak_mib"])
    peaks = {side: statistics.median(values) for side, values in memory.items()}
    figures: dict[str, object] = {"peak_mib": peaks, "batches": _lesson(size)[0] // BATCH, "parameters": size * 1e6}
    for name, summary in (("median", statistics.median), ("least", min)):
        seconds_of = {side: summary(times) for side, times in epochs.items()}
        figures[f"{name}_s"] = seconds_of
        if len(ran) == len(SIDES):
            figures[f"{name}_ratio"] = seconds_of["ours"] / seconds_of["theirs"]
    return figures


@contextmanager
def _process(side: str, step: str, size: float) -> Iterator[Process]:
    """One side, which waits for its turn."""
    legacy = {"TF_USE_LEGACY_KERAS": "1"} if side == "theirs" else {}
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **legacy}
    argv = [sys.executable, __file__, "--one", side, step, str(size)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            yield process
        except EOFError:
            errors.seek(0)
            raise SystemExit(f"{' '.join(argv[2:])} failed:\n{errors.read()[-2000:]}") from None
        finally:
            process.kill()
            process.wait()


def _answer(process: Process) -> dict[str, float]:
    """Give a process its turn, and wait for what it has measured."""
    assert process.stdin
    assert process.stdout
    with suppress(BrokenPipeError):
        process.stdin.write("go\n")
        process.stdin.flush()
    for line in process.stdout:
        if line.startswith("{"):
            answer: dict[str, float] = json.loads(line)
            return answer
    raise EOFError


def _run_here(side: str, step: str, size: float) -> None:
    samples, epochs = _lesson(size)
    generator = np.random.default_rng(0)
    images = generator.random((samples, 28, 28, 1), np.float32)
    labels = generator.integers(0, 10, samples)
    clock = _Clock(samples // BATCH)
    (_ours if side == "ours" else _theirs)(step, size, images, labels, epochs, clock)
    print(json.dumps({"peak_mib": (peak_rss_bytes() or 0) / (1 << 20)}), flush=True)


class _Clock:
    """Says how long each epoch took and waits before the next; also the progress that edgekit reports to."""

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self._wait()

    def _wait(self) -> None:
        sys.stdin.readline()
        self._since = perf_counter()

    def mark(self) -> None:
        """An epoch has ended."""
        print(json.dumps({"epoch_s": perf_counter() - self._since}), flush=True)
        self._wait()

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Callable[[int, str], None]]:  # noqa: ARG002  # Progress's
        done = 0

        def advance(units: int, words: str) -> None:  # noqa: ARG001
            nonlocal done
            done += units
            if units and done % self._batches == 0:
                self.mark()

        yield advance


def _lesson(size: float) -> tuple[int, int]:
    """(samples, epochs)."""
    return next((samples, epochs) for below, samples, epochs in LESSONS if size < below)


def network(keras: Any, millions: float, *, width: float = 1.0) -> Any:
    """Two convolutions and two wide dense layers, about so many million parameters; `width` scales every layer."""
    layers = keras.layers
    hidden = int(width * _hidden(millions))
    image = outputs = keras.Input((28, 28, 1))
    for filters in (16, 32):
        outputs = layers.Conv2D(int(width * filters), 3, 2, "same", use_bias=False)(outputs)
        outputs = layers.BatchNormalization()(outputs)
        outputs = layers.ReLU()(outputs)
    outputs = layers.Flatten()(outputs)
    outputs = layers.Dense(hidden, activation="relu")(outputs)
    outputs = layers.Dense(hidden, activation="relu")(outputs)
    return keras.Model(image, layers.Dense(10, activation="softmax")(outputs))


def _hidden(millions: float) -> int:
    """h of h² + (7 · 7 · 32 + 10) h = parameters, a multiple of 16."""
    b = 7 * 7 * 32 + 10
    return max(16, int((-b + (b * b + 4e6 * millions) ** 0.5) / 2) // 16 * 16)


def _ours(step: str, size: float, images: Any, labels: Any, epochs: int, clock: _Clock) -> None:
    """The step, as a user calls it."""
    import keras

    import edgekit
    from edgekit.compression import Step

    lesson: dict[str, Any] = {"epochs": epochs, "learning_rate": RATE, "batch_size": BATCH}
    steps: dict[str, Callable[[], Step]] = {
        "prune": lambda: edgekit.Prune(0.8, **lesson),
        "cluster": lambda: edgekit.Cluster(16, **lesson),
        "quantize-aware": lambda: edgekit.QuantizeAware(**lesson),
        "prune-channels": lambda: edgekit.PruneChannels(0.5, **lesson),
        "distill": lambda: edgekit.Distill(0.5, **lesson),
    }
    edgekit.compress(network(keras, size), steps[step](), data={"x": images, "y": labels}, progress=clock)


def _theirs(step: str, size: float, images: Any, labels: Any, epochs: int, clock: _Clock) -> None:
    """What a user would write by hand."""
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras

    model = network(tf_keras, size)
    loss: object = "sparse_categorical_crossentropy"
    targets, callbacks = labels, []
    steps = epochs * -(-len(images) // BATCH)
    if step == "prune":
        schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.8, 0, int(0.6 * steps), frequency=max(1, steps // 50))
        model = tfmot.sparsity.keras.prune_low_magnitude(model, pruning_schedule=schedule)
        callbacks.append(tfmot.sparsity.keras.UpdatePruningStep())
    elif step == "cluster":
        start = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
        model = tfmot.clustering.keras.cluster_weights(model, number_of_clusters=16, cluster_centroids_init=start)
    elif step == "quantize-aware":
        model = tfmot.quantization.keras.quantize_model(model)
    elif step == "prune-channels":
        model = network(tf_keras, size, width=0.5)
    elif step == "distill":
        teacher = model.predict(images, verbose=0)
        targets = np.concatenate([np.eye(10, dtype=np.float32)[labels], np.log(teacher + 1e-7)], axis=1)
        model, loss = network(tf_keras, size, width=0.5), _distillation_loss(tf)
    callbacks.append(tf_keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: clock.mark()))
    model.compile(tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(RATE, steps)), loss)
    model.fit(images, targets, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=callbacks)


def _distillation_loss(tf: Any) -> Callable[[Any, Any], Any]:
    def loss(targets: Any, outputs: Any) -> Any:
        logits = tf.math.log(outputs + 1e-7)
        hard = -tf.reduce_sum(targets[:, :10] * tf.nn.log_softmax(logits), axis=-1)
        soft = -tf.reduce_sum(tf.nn.softmax(targets[:, 10:] / 3.0) * tf.nn.log_softmax(logits / 3.0), axis=-1)
        return 0.7 * 9.0 * soft + 0.3 * hard

    return loss


if __name__ == "__main__":
    main()
