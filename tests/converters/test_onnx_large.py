"""A Keras model of more weights than one protocol buffer holds, at its real size: 2 GiB and 4 MB."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from edgekit_onnx import converter
from edgekit_onnx.reading import MOST_BYTES

WIDTH = 16384
PARAMETERS = 64 * WIDTH + 2 * WIDTH * WIDTH + 10 * WIDTH + 3 * WIDTH + 10
PEAK_MIB = 8192  # of the conversion's processes: the weights take 2,052
MAKE = """
import sys
from pathlib import Path
import keras
import numpy as np

folder, width = Path(sys.argv[1]), int(sys.argv[2])
keras.utils.set_random_seed(0)
image = hidden = keras.Input((64,), name="image")
for name in ("widen", "first", "second"):
    hidden = keras.layers.Dense(width, activation="relu", bias_initializer="normal", name=name)(hidden)
scores = keras.layers.Dense(10, bias_initializer="normal", name="scores")(hidden)
model = keras.Model(image, scores, name="large")
samples = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
np.savez(folder / "reference.npz", image=samples, scores=np.asarray(model(samples)))
model.save(folder / "large.keras")
"""
CONVERT = """
import resource, sys
from edgekit.cli import main

code = main(["convert", *sys.argv[1:]])
print(max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Removed at the end: pytest would keep it for three runs."""
    path = tmp_path_factory.mktemp("large")
    yield path
    shutil.rmtree(path)


def python(program: str, *argv: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, argv)], check=False, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def convert(model: Path, output: Path, *flags: str) -> None:
    *_, peak_mib = python(CONVERT, model, "--to", "onnx", "-o", output, *flags)
    assert int(peak_mib) < PEAK_MIB


def error_of(path: Path, folder: Path) -> float:
    """The largest difference from Keras, as a part of its largest score."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with np.load(folder / "reference.npz") as stored:
        (got,) = session.run(None, {"image": stored["image"]})
        return float(np.abs(got - stored["scores"]).max() / np.abs(stored["scores"]).max())


@pytest.mark.slow
def test_more_than_two_gibibytes(folder: Path) -> None:
    python(MAKE, folder, WIDTH)
    made, again, int8 = (folder / name / "large.onnx" for name in ("made", "again", "int8"))
    convert(folder / "large.keras", made)
    (folder / "large.keras").unlink()
    assert made.with_name("large.onnx.data").stat().st_size > MOST_BYTES
    assert error_of(made, folder) < 1e-4
    assert converter.inspect(made).parameters == PARAMETERS
    convert(made, again)
    assert error_of(again, folder) < 1e-4
    shutil.rmtree(again.parent)
    convert(made, int8, "--precision", "dynamic-int8")
    assert [item.name for item in int8.parent.iterdir()] == ["large.onnx"]
    assert error_of(int8, folder) < 0.05
