"""Which operators of a transformer pay in integers: everything, or the dense layers alone? SNR, size and latency.

    python benchmarks/tflite_mixed.py [-o FILE.json]

The zoo's transformer at a usual size, random weights. All files run in turns in one process, one thread.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Any: a table of settings, as a project file has it

from benchmarks import zoo
from benchmarks.tflite_tools import ROOT
from edgekit.comparison import compare_outputs
from edgekit.comparison.model_file import ModelFile, describe, run_file, time_files
from edgekit.conversion import Source, find_converter
from edgekit.exporting import export_source
from edgekit.loading import LoadedModel, import_keras, load
from edgekit.tensors import Array
from examples.study import Notebook

FIGURES = ROOT / "examples" / "figures" / "tflite-mixed.json"
SHAPE = {"size": 128, "width": 256, "heads": 4, "blocks": 4}
CALIBRATION, SAMPLES = 32, 16
WARMUP, RUNS = 20, 200
ALONE = {"*": "fp32"}
RECIPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # name -> precision, operator types with another
    "fp32": ("fp32", {}),
    "fp16": ("fp16", {}),
    "dynamic-int8": ("dynamic-int8", {}),
    "int8-float-io": ("int8-float-io", {}),
    "int8 for FULLY_CONNECTED alone": ("int8-float-io", {**ALONE, "FULLY_CONNECTED": "int8"}),
}


def main() -> None:
    """Measure, unless the figures are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=FIGURES)
    args = parser.parse_args()
    Notebook(args.output).once("transformer", lambda: study(build(SHAPE)))


def build(shape: Mapping[str, int]) -> LoadedModel:
    """The transformer of this shape."""
    import_keras().utils.set_random_seed(0)
    model = zoo.transformer(**shape)
    zoo.randomise(model)
    return load(model)


def study(model: LoadedModel, *, warmup: int = WARMUP, runs: int = RUNS) -> dict[str, Any]:
    """Recipe -> what its file is and takes."""
    calibration, samples = (zoo.inputs(model.model, *size) for size in ((CALIBRATION, 1), (SAMPLES, 2)))
    reference = model.predict(samples)
    with tempfile.TemporaryDirectory(prefix="edgekit-mixed-") as folder:
        source = export_source(model, Path(folder))
        files = {name: _convert(source, name, calibration) for name in RECIPES}
        timings = time_files(files, samples, warmup=warmup, runs=runs)
        found: dict[str, Any] = {"parameters": model.parameters}
        for name, file in files.items():
            parity = compare_outputs(reference, run_file(file, samples, label=name))
            found[name] = {
                "bytes": Path(file.path).stat().st_size,
                "snr_db": parity.snr_db and round(parity.snr_db, 1),
                "median_ms": timings[name].median_ms,
                "p90_ms": timings[name].p90_ms,
            }
        return found


def _convert(source: Source, name: str, calibration: Mapping[str, Array]) -> ModelFile:
    precision, ops = RECIPES[name]
    converter = find_converter("tflite")
    if ops:
        converter = converter.with_options({"ops": ops}, where=name)
    output = source.work / f"{name}.tflite"
    converter.convert(source, precision=precision, calibration=calibration, output=output)
    return describe(output, "tflite")


if __name__ == "__main__":
    main()
