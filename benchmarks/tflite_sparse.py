"""Does TFLite's sparse encoding pay? Size, size in a zip, and latency on this CPU, against the dense file.

    python benchmarks/tflite_sparse.py [-o FILE.json]

Networks with 80 % and 90 % of their weights zero: the demo's digits, pruned and fine-tuned; two wide dense layers and
EfficientNet-Lite0, their smallest weights set to zero. tf.lite.TFLiteConverter writes each dense, and with its
optimization EXPERIMENTAL_SPARSITY. All files of one network and precision run in turns in one process, one thread.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process_tree import python, run
from benchmarks.tflite_sides import outputs_of
from benchmarks.tflite_tools import ENVIRONMENT, ROOT, prepare, save
from edgekit.runtime.timing import measure
from examples.study import Notebook

FIGURES = ROOT / "examples" / "figures" / "tflite-sparse.json"
SUBJECTS = ("digits", "two dense layers", "efficientnet-lite0")
SPARSITIES = (0.0, 0.8, 0.9)
PRECISIONS = ("fp32", "int8")
ENCODINGS = ("dense", "sparse")
WIDTH = 2048
WARMUP, RUNS = 20, 200


def main() -> None:
    """Measure what is missing in the figures."""
    if sys.argv[1:2] == ["--one"]:
        convert(Path(sys.argv[2]), *sys.argv[3:5])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=SUBJECTS)
    parser.add_argument("-o", "--output", type=Path, default=FIGURES)
    args = parser.parse_args()
    notebook = Notebook(args.output)
    for subject in args.subjects:
        notebook.once(subject, partial(study, subject))


def study(subject: str) -> dict[str, Any]:
    """`"int8, 80%, sparse"` -> bytes, zipped bytes, milliseconds, and how far its outputs are from the dense file's."""
    with tempfile.TemporaryDirectory(prefix="edgekit-sparse-") as name:
        folders = {sparsity: Path(name, f"{sparsity:g}") for sparsity in SPARSITIES}
        _write(subject, folders)
        found: dict[str, Any] = {}
        for precision in PRECISIONS:
            files = {}
            for sparsity, folder in folders.items():
                for encoding in ENCODINGS if sparsity else ENCODINGS[:1]:
                    run(python(__file__, "--one", str(folder), precision, encoding), environment=ENVIRONMENT)
                    files[f"{precision}, {sparsity:.0%}, {encoding}"] = folder / f"{precision}-{encoding}.tflite"
            found |= figures(files)
        return found


def figures(files: dict[str, Path]) -> dict[str, Any]:
    """What each file is and takes."""
    from ai_edge_litert.interpreter import Interpreter

    calls, refused = {}, {}
    for name, path in files.items():
        interpreter = Interpreter(str(path), num_threads=1)
        try:
            interpreter.allocate_tensors()
        except RuntimeError as problem:  # LiteRT does not run every sparse file
            refused[name] = " ".join(str(problem).split())
        else:
            calls[name] = interpreter.invoke
    timings = measure(calls, warmup=WARMUP, runs=RUNS)
    return {
        name: {
            "bytes": path.stat().st_size,
            "zipped": len(zlib.compress(path.read_bytes(), 9)),
            "sparse_tensors": sparse_tensors(path),
            "refused": refused.get(name),
            "median_ms": None if name in refused else timings[name].median_ms,
            "difference": None if name in refused else _difference(path, files[name.replace("sparse", "dense")]),
        }
        for name, path in files.items()
    }


def sparse_tensors(path: Path) -> int:
    """How many tensors are stored with sparsity parameters."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    return sum(tensor.sparsity is not None for graph in model.subgraphs for tensor in graph.tensors)


def _difference(path: Path, dense: Path) -> float:
    with np.load(path.parent / "calibration.npz") as stored:
        (images,) = (array[:4] for array in stored.values())
    return float(np.abs(outputs_of(path, images) - outputs_of(dense, images)).max())


def convert(folder: Path, precision: str, encoding: str) -> None:
    """One file, in a process of its own."""
    import keras
    import tensorflow as tf

    made = tf.lite.TFLiteConverter.from_keras_model(keras.models.load_model(folder / "model.keras"))
    made.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY] if encoding == "sparse" else []
    if precision == "int8":
        (images,) = np.load(folder / "calibration.npz").values()
        made.optimizations = [tf.lite.Optimize.DEFAULT, *made.optimizations]
        made.representative_dataset = lambda: ([image[None]] for image in images)
        made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        made.inference_input_type = made.inference_output_type = tf.int8
    (folder / f"{precision}-{encoding}.tflite").write_bytes(made.convert())


def _write(subject: str, folders: dict[float, Path]) -> None:
    """`model.keras` and `calibration.npz` for each sparsity."""
    from edgekit.loading import load

    first = folders[0.0]
    first.mkdir()
    if subject == "two dense layers":
        _dense(first)
    else:
        prepare(subject, first)
    for sparsity, folder in folders.items():
        if not sparsity:
            continue
        folder.mkdir()
        model = load(first / "model.keras")
        if subject == "digits":
            _pruned(model, sparsity, first).save(folder / "model.keras")
        else:
            zero_smallest(model.model, sparsity)
            model.model.save(folder / "model.keras")
        (folder / "calibration.npz").write_bytes((first / "calibration.npz").read_bytes())


def _pruned(model: Any, sparsity: float, folder: Path) -> Any:
    import edgekit

    return edgekit.compress(model, edgekit.Prune(sparsity, epochs=2), data=folder / "project" / "train.npz")


def zero_smallest(model: Any, sparsity: float) -> None:
    """Zero the smallest weights of every kernel but those of depthwise convolutions, which have few."""
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None or "Depthwise" in type(layer).__name__:
            continue
        values = kernel.numpy()
        kernel.assign(np.where(np.abs(values) < np.quantile(np.abs(values), sparsity), 0, values))


def _dense(folder: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    image = outputs = keras.Input((WIDTH,), name="image")
    for _ in range(2):
        outputs = keras.layers.Dense(WIDTH, activation="relu")(outputs)
    keras.Model(image, keras.layers.Dense(10)(outputs)).save(folder / "model.keras")
    save(folder / "calibration.npz", image=np.random.default_rng(0).random((20, WIDTH), np.float32))


if __name__ == "__main__":
    main()
