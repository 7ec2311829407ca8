"""ONNX conversion against tf2onnx and ONNX Runtime called by hand, and an engine from the cache against its build.

    python benchmarks/onnx_tensorrt.py [--rounds 3] [--subjects digits efficientnet-lite0] [-o FILE.json]

`edgekit` makes fp32, fp16 and int8 in one session, `edgekit-plain` too, with int8 as the script makes it; `by-hand` is
one script that makes the same three. Subjects, their
samples and the way of measuring are those of `benchmarks/tflite_tools.py`. Then each precision of `edgekit` is built by
TensorRT-RTX, where it is installed, and fetched from the cache of engines by another look-up. At last, fp32 alone of a
model with large matrices.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.onnx_sides import PRECISIONS, SIDES
from benchmarks.process_tree import python, run
from benchmarks.tflite_tools import ENVIRONMENT, ROOT, SUBJECTS, cost, prepare, save
from edgekit.tensorrt.building import build_engine
from edgekit.tensorrt.cache import EngineCache, Machine
from edgekit.tensorrt.recipe import Recipe
from examples.study import Notebook

FIGURES = ROOT / "examples" / "figures" / "onnx-tensorrt.json"
SCRIPT = Path(__file__).with_name("onnx_sides.py")
LIBRARIES = "import tensorflow, keras, tf2onnx, onnxruntime.quantization"
GPU = "SM86"
HITS = 50
WIDTH, LAYERS = 2048, 6  # of the model with large matrices: 23 million parameters


def main() -> None:
    """Measure what is missing in the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=SUBJECTS)
    parser.add_argument("-o", "--output", type=Path, default=FIGURES)
    args = parser.parse_args()
    notebook = Notebook(args.output)
    with tempfile.TemporaryDirectory(prefix="edgekit-tools-") as folder:
        for subject in args.subjects:
            place = Path(folder, subject)
            place.mkdir()
            prepare(subject, place)
            compare(notebook, subject, place, rounds=args.rounds)
        compare_large(notebook, Path(folder), rounds=args.rounds)


def compare(notebook: Notebook, subject: str, folder: Path, *, rounds: int) -> None:
    """Both sides of one subject, round by round, the figures of their files, and the engines."""
    run(python("-c", LIBRARIES), environment=ENVIRONMENT)
    for number in range(rounds):
        for side in SIDES:
            notebook.once(f"{subject}, {side}, round {number}", partial(cost, [_argv(side, folder)]))
    for side in SIDES:  # a run that goes on has only the figures of the last one
        if not any((folder / side).glob("*.onnx")):
            cost([_argv(side, folder)])
    evaluated = partial(run, _argv("evaluate", folder), environment=ENVIRONMENT)
    notebook.once(f"{subject}, files", lambda: json.loads(evaluated().output.splitlines()[-1]))
    for precision in PRECISIONS:
        model = folder / "edgekit" / f"{precision}.onnx"
        notebook.once(f"{subject}, {precision}, engine", partial(engine, model, folder / "cache"))


def compare_large(notebook: Notebook, folder: Path, *, rounds: int, width: int = WIDTH) -> None:
    """A chain of dense layers, whose kernels are all of its weights."""
    import keras

    keras.utils.set_random_seed(0)
    chain = [keras.layers.Dense(width, activation="relu") for _ in range(LAYERS)]
    model = keras.Sequential([keras.Input((width // 2,), name="x"), *chain])
    model.save(folder / "model.keras")
    save(folder / "calibration.npz", x=np.zeros((1, width // 2), np.float32))  # which fp32 does not ask for
    notebook.once("large matrices, parameters", model.count_params)
    for number in range(rounds):
        for side in ("edgekit", "by-hand"):
            taken = partial(cost, [[*_argv(side, folder), "fp32"]])
            notebook.once(f"large matrices, {side}, round {number}", taken)


def engine(model: Path, cache: Path) -> dict[str, float]:
    """Seconds of one build into the cache, process and checks included, and the median of finding it there."""
    content, recipe = model.read_bytes(), Recipe(compute_capabilities=(GPU,))
    machine = Machine("tensorrt_rtx", "", GPU, GPU, 0, 0, None)  # only a key: nothing runs here
    engines = EngineCache(cache)
    start = perf_counter()
    built = engines.get(content, recipe, machine, build_engine)
    build_s = perf_counter() - start
    hits = []
    for _ in range(HITS):
        start = perf_counter()
        found = engines.get(content, recipe, machine, build_engine)
        hits.append(perf_counter() - start)
        if found.built_now or found.plan != built.plan:
            raise SystemExit(f"{model}: the cache did not give what was built")
    return {"build_s": round(build_s, 2), "hit_ms": round(1000 * median(hits), 2), "bytes": len(built.plan)}


def _argv(side: str, folder: Path) -> list[str]:
    return python(str(SCRIPT), side, str(folder))


if __name__ == "__main__":
    main()
