"""TFLite conversion against the plain tools: time, memory, size, SNR and accuracy, in one run.

    python benchmarks/tflite_tools.py [--rounds 3] [--subjects digits efficientnet-lite0] [-o FILE.json]

`edgekit` makes seven precisions in one session from one export. `converter` is a script with tf.lite.TFLiteConverter,
started once for each of six precisions: it has no int4. `quantizer` is one script that exports with Keras and calls
litert-quantizer, Google's package, plainly for each precision. All start from the same `.keras` file, calibrate on the
same samples and are whole processes, imports included; in each round they take turns. A first process imports the
libraries unmeasured, so that the disk counts for nobody. A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process_tree import Run, python, run
from benchmarks.tflite_sides import PRECISIONS
from examples.study import Notebook

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "examples" / "figures" / "tflite-tools.json"
SCRIPT = Path(__file__).with_name("tflite_sides.py")
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
SUBJECTS = ("digits", "efficientnet-lite0")
CALIBRATION = {"digits": 200, "efficientnet-lite0": 50}
LIBRARIES = "import tensorflow, keras, litert_quantizer.quantizer"


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
            make = partial(_apart, subject)
            compare(notebook, subject, make, Path(folder, subject), rounds=args.rounds)


def compare(notebook: Notebook, subject: str, make: Callable[[Path], None], folder: Path, *, rounds: int) -> None:
    """All sides of one subject, round by round, then the figures of their files."""
    folder.mkdir()
    make(folder)
    run(python("-c", LIBRARIES), environment=ENVIRONMENT)
    for number in range(rounds):
        for side, commands in sides(folder).items():
            notebook.once(f"{subject}, {side}, round {number}", partial(cost, commands))
    for side, commands in sides(folder).items():  # a run that goes on has only the figures of the last one
        if not any((folder / side).glob("*.tflite")):
            cost(commands)
    notebook.once(f"{subject}, files", lambda: json.loads(_side("evaluate", folder).output.splitlines()[-1]))


def sides(folder: Path) -> dict[str, list[list[str]]]:
    """The commands of each side, to be run one after another."""
    plain = [name for name in PRECISIONS if name != "int4-weights"]
    return {
        "edgekit": [_argv("edgekit", folder)],
        "converter": [_argv("converter", folder, name) for name in plain],
        "quantizer": [_argv("quantizer", folder)],
    }


def cost(commands: list[list[str]]) -> dict[str, Any]:
    """Seconds of all commands together, and the highest peak."""
    runs = [run(argv, environment=ENVIRONMENT) for argv in commands]
    return {
        "wall_s": round(sum(each.wall_s for each in runs), 2),
        "cpu_s": round(sum(each.cpu_s for each in runs), 2),
        "peak_mib": round(max(each.peak_mib for each in runs)),
        "shared_once_mib": round(max(each.shared_once_mib for each in runs)),
        "anonymous_mib": round(max(each.anonymous_mib for each in runs)),
        "each_s": [round(each.wall_s, 2) for each in runs],
    }


def _side(side: str, folder: Path) -> Run:
    return run(_argv(side, folder), environment=ENVIRONMENT)


def _argv(side: str, folder: Path, *rest: str) -> list[str]:
    return python(str(SCRIPT), side, str(folder), *rest)


def _apart(subject: str, folder: Path) -> None:
    """Prepare in a process that ends: one that maps TensorFlow would share the pages that are counted later."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(prepare, subject, folder).result()


def prepare(subject: str, folder: Path) -> None:
    """Write `model.keras`, `calibration.npz` and `test.npz`."""
    (_digits if subject == "digits" else _efficientnet)(folder)


def _digits(folder: Path) -> None:
    """The demo's network, trained as the demo does, on MNIST digits."""
    from edgekit import demo
    from edgekit.progress import LoggedProgress

    demo.prepare(folder / "project", LoggedProgress())
    (folder / "project" / "digits.keras").rename(folder / "model.keras")
    (folder / "project" / "test.npz").rename(folder / "test.npz")
    with np.load(folder / "project" / "train.npz") as stored:
        save(folder / "calibration.npz", image=_spread(stored["image"], CALIBRATION["digits"]))


def _efficientnet(folder: Path) -> None:
    """ImageNet weights, crops of photos; its own classes are the labels."""
    from examples import efficientnet_lite0 as example

    model = example.efficientnet_lite0()
    model.model.save(folder / "model.keras")
    training, test = (
        example.photos(names, crops, seed=seed).inputs["image"]
        for names, crops, seed in ((example.TRAIN_PHOTOS, 8, 1), (example.TEST_PHOTOS, 20, 2))
    )
    (scores,) = model.predict({"image": test}).values()
    save(folder / "calibration.npz", image=_spread(training, CALIBRATION["efficientnet-lite0"]))
    save(folder / "test.npz", image=test, y=scores.argmax(axis=-1))


def _spread(images: Any, count: int) -> Any:
    return images[np.linspace(0, len(images) - 1, count).astype(int)]


def save(path: Path, **arrays: Any) -> None:
    """An .npz, uncompressed: reading it is no side's work."""
    np.savez(path, **arrays)


if __name__ == "__main__":
    main()
