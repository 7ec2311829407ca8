"""Peak memory of int8 conversion at 100 million parameters, and what other sizes take.

    python benchmarks/tflite_memory.py [--sizes 1 10 100] [-o FILE.json]

`edgekit convert` of a `.keras` file and of a float `.tflite` file, tf.lite.TFLiteConverter and litert-quantizer in
scripts of their own; 20 calibration samples. The network has one layer with most of the parameters, the hardest case
for copies of a tensor. Memory is that of all processes together (`benchmarks/process_tree.py`); `bare` is a process
that has only imported the libraries. The peak while a worker of edgekit's is there carries its name.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process_tree import LIMIT_MIB, TookTooMuch, python, run
from benchmarks.tflite_tools import ENVIRONMENT, ROOT, SCRIPT, save
from benchmarks.training_cost import network
from examples.study import Notebook

FIGURES = ROOT / "examples" / "figures" / "tflite-memory.json"
SAMPLES = 20
WORKERS = ("export_worker", "calibrate_worker", "quantize_worker")
STAY = "; import time; time.sleep(1)"
BARE = {
    "bare TensorFlow and Keras": "import tensorflow, keras" + STAY,
    "bare litert-quantizer": "import litert_quantizer.quantizer, edgekit_tflite.quantize_worker" + STAY,
}


def main() -> None:
    """Measure what is missing in the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1, 10, 100], help="millions of parameters")
    parser.add_argument("-o", "--output", type=Path, default=FIGURES)
    args = parser.parse_args()
    notebook = Notebook(args.output)
    bare(notebook)
    for size in args.sizes:
        measure(notebook, size)


def bare(notebook: Notebook) -> None:
    """Processes that have only imported the libraries."""
    for name, code in BARE.items():
        notebook.once(name, partial(_peak, python("-c", code)))


def measure(notebook: Notebook, size: float, *, only: Sequence[str] = ()) -> None:
    """All ways at one size, or only some."""
    with tempfile.TemporaryDirectory(prefix="edgekit-memory-") as name:
        folder = Path(name)
        parameters = _write(folder, size)
        notebook.once(f"{size:g} M, parameters", lambda: parameters)
        run(python(str(SCRIPT), "edgekit", name, "fp32"), environment=ENVIRONMENT)
        ways = {
            "edgekit convert .keras": _convert(folder, folder / "model.keras"),
            "edgekit convert .tflite": _convert(folder, folder / "edgekit" / "fp32.tflite"),
            "edgekit convert .keras to ONNX": _convert(folder, folder / "model.keras", to="onnx"),
            "TFLiteConverter": python(str(SCRIPT), "converter", name, "int8"),
            "Keras export and litert-quantizer": python(str(SCRIPT), "quantizer", name, "int8"),
        }
        for way, argv in ways.items():
            if only and way not in only:
                continue
            notebook.once(f"{size:g} M, {way}", partial(_peak, argv))


def _convert(folder: Path, model: Path, *, to: str = "tflite") -> list[str]:
    return python(
        "-m", "edgekit", "convert", str(model), "--to", to, "--precision", "int8",
        "--calibration", str(folder / "calibration.npz"), "-o", str(folder / f"converted.{to}"),
    )  # fmt: skip


def _peak(argv: list[str]) -> dict[str, float]:
    try:
        taken = run(argv, words=WORKERS, environment=ENVIRONMENT)
    except TookTooMuch:
        return {"stopped_at_mib": LIMIT_MIB}
    phases = {word: round(peak) for word, peak in taken.peaks_mib.items() if peak}
    peaks = {"peak_mib": round(taken.peak_mib), "anonymous_mib": round(taken.anonymous_mib)}
    return {**peaks, "wall_s": round(taken.wall_s, 1), "cpu_s": round(taken.cpu_s, 1), **phases}


def _write(folder: Path, millions: float) -> int:
    """A network of random weights and its calibration samples; the number of its parameters."""
    import keras

    keras.utils.set_random_seed(0)
    model: Any = network(keras, millions)
    model.save(folder / "model.keras")
    images = np.random.default_rng(0).random((SAMPLES, 28, 28, 1), np.float32)
    save(folder / "calibration.npz", x=images)
    parameters: int = model.count_params()
    return parameters


if __name__ == "__main__":
    main()
