"""A recurrent network on smart-watch motion, trained on windows and run sample by sample from a bundle with state.

    python benchmarks/streaming.py [-o FILE.json]

How far the streaming answers are from those of whole windows, and what each precision costs in accuracy, size and time.
Training takes a minute on two processors.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any  # Any: keras models, and figures as JSON has them

import numpy as np

import edgekit
from benchmarks.tflite_tools import ROOT
from edgekit.data import Data
from edgekit.loading import import_keras
from edgekit.runtime import open_bundle
from edgekit.runtime.sequences import run_samples
from examples.study import Notebook
from examples.watch import load_watch, watch_gru

FIGURES = ROOT / "examples" / "figures" / "streaming.json"
PRECISIONS = ("fp32", "dynamic-int8", "int8")
TARGET = "local"
EPOCHS, BATCH, RATE = 6, 64, 3e-3


def main() -> None:
    """Measure, unless the figures are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=FIGURES)
    args = parser.parse_args()
    Notebook(args.output).once("watch", lambda: study(*load_watch()))


def study(train: Data, test: Data, *, epochs: int = EPOCHS, units: int = 48) -> dict[str, Any]:
    """Windows of (n, 100, 6) -> accuracy of the float model, and what each variant of a streaming bundle comes to."""
    whole = trained(train, epochs=epochs, units=units)
    stream = watch_gru(units, streaming=True)
    stream.set_weights(whole.get_weights())
    calibration, evaluation = in_steps(train), in_steps(test)
    scores = whole.predict(test.inputs["motion"], verbose=0)
    with tempfile.TemporaryDirectory(prefix="edgekit-streaming-") as folder:
        output = Path(folder, "watch-1.0.edgekit")
        built = edgekit.build(
            stream, targets={TARGET: PRECISIONS}, evaluation=evaluation, calibration=calibration, output=output
        )
        largest = {variant.id: _difference(output, variant.id, evaluation, scores) for variant in built.report.variants}
    parity = {item.variant: item for item in built.report.parity}
    return {
        "windows": len(test),
        "float_top1": float(np.mean(scores.argmax(axis=1) == test.need_labels())),
        "variants": {
            variant.id: {
                "top1": variant.metric,
                "bytes": variant.bytes,
                "median_us_per_step": None if variant.median_ms is None else round(1000 * variant.median_ms, 1),
                "snr_db": parity[variant.id].snr_db,
                "largest_difference_from_whole_windows": largest[variant.id],
            }
            for variant in built.report.variants
        },
    }


def trained(train: Data, *, epochs: int, units: int) -> Any:
    """The network of whole windows."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    model = watch_gru(units)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE), loss)
    model.fit(train.inputs["motion"], train.need_labels(), batch_size=BATCH, epochs=epochs, verbose=0)
    return model


def in_steps(data: Data) -> Data:
    """Windows as sequences of single samples, (n, 100, 1, 6)."""
    motion = data.inputs["motion"][:, :, None]
    return replace(data, inputs={"motion": motion}, steps=motion.shape[1])


def _difference(bundle: Path, variant: str, data: Data, scores: np.ndarray) -> float:
    """Of the last step's scores from those of whole windows, at most."""
    with open_bundle(bundle, variant=variant) as session:
        answers = run_samples(session, data.inputs)["scores"][:, -1]
    return float(np.abs(answers - scores).max())


if __name__ == "__main__":
    main()
