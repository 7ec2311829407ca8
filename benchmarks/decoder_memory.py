"""Peak memory of `edgekit convert` on a decoder of SmolLM-135M's shape. Part of language_decoder.py.

The weights are random. Measured over the whole process tree (process_tree.py); `times_float` is the peak by 4 bytes for
each parameter.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.process_tree import MIB, python, run
from edgekit.language.llama import DecoderSizes, tensor_shapes
from edgekit.language.llama_writing import save_tensors

SMOLLM = DecoderSizes(vocabulary=49_152, width=576, inner=1536, blocks=30, heads=9, groups=3, head_size=64)
CONTEXT = 256
PRECISIONS = {
    "dynamic-int8": ("dynamic-int8",),
    "int4-weights, blocks of 32": ("int4-weights", "--block-size", "32"),
}
_STAGES = ("decoding_worker", "export_worker", "quantize_worker", "opening_worker")


@dataclass(frozen=True)
class Row:
    """One conversion."""

    precision: str
    parameters: int
    bytes: int
    wall_s: float
    peak_mib: float  # of all processes together
    anonymous_mib: float  # of it, what is no page of a file
    peaks_mib: dict[str, float]  # while a worker was there
    times_float: float


def measure(only: str = "") -> list[Row]:
    """Write the folder once, and convert it to each precision."""
    found = []
    with tempfile.TemporaryDirectory(prefix="edgekit-135m-") as name:
        folder = Path(name, "smollm")
        parameters = write_random(folder, SMOLLM)
        for precision, flags in PRECISIONS.items():
            if only in precision:
                found.append(_converted(folder, Path(name, "smollm.tflite"), precision, flags, parameters))
                print(found[-1], flush=True)
    return found


def write_random(folder: Path, sizes: DecoderSizes) -> int:
    """A folder of random weights of these sizes; how many."""
    generator = np.random.default_rng(0)
    tensors = {
        name: generator.standard_normal(shape, np.float32) * np.float32(0.02) + np.float32(len(shape) == 1)
        for name, shape in tensor_shapes(sizes)
    }
    save_tensors(folder, tensors, sizes, positions=2048)
    return sum(array.size for array in tensors.values())


def _converted(folder: Path, output: Path, precision: str, flags: tuple[str, ...], parameters: int) -> Row:
    words = ("-m", "edgekit", "convert", str(folder), "--context", str(CONTEXT), "--to", "tflite", "-o", str(output))
    took = run(python(*words, "--precision", *flags), words=_STAGES)
    return Row(
        precision, parameters, output.stat().st_size, took.wall_s, took.peak_mib, took.anonymous_mib,
        dict(took.peaks_mib), took.peak_mib * MIB / (4 * parameters),
    )  # fmt: skip
