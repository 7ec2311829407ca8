"""Every TFLite precision on every architecture: how near it is to Keras, its size, or why it is refused.

    python benchmarks/tflite_matrix.py [--rows LSTM,GRU] [--columns int8,fp16] [--again] [-o PAGE.md]

Weights are random, with BatchNormalization statistics of real passes; inputs are those of `benchmarks/zoo.py`. Results
are kept in a .jsonl beside the page, and a stopped run goes on with the cells that are missing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import zoo  # noqa: E402  # a script's own folder is on the path, the repository is not
from benchmarks.journal import Cell, Key, append, counted, run_matrix, table  # noqa: E402
from edgekit.comparison import compare_outputs  # noqa: E402
from edgekit.comparison.model_file import describe, run_file  # noqa: E402
from edgekit.conversion import Converter, Source, find_converter  # noqa: E402
from edgekit.errors import EdgekitError  # noqa: E402
from edgekit.exporting import export_source  # noqa: E402
from edgekit.loading import load  # noqa: E402
from edgekit.tensors import Array  # noqa: E402

ARCHITECTURES = (
    "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50", "DenseNet121", "ConvNeXtTiny", "transformer",
    "LSTM", "GRU", "BiGRU", "Conv1D", "U-Net", "siamese", "several",
)  # fmt: skip
PRECISIONS = ("fp32", "fp16", "dynamic-int8", "int8", "int8-float-io", "int16x8", "int4-weights")
CALIBRATION, SAMPLES = 32, 16


def main() -> None:
    """Run what is missing, and write the page."""
    run_matrix(__doc__ or "", ARCHITECTURES, PRECISIONS, ROOT / "docs" / "tflite-matrix.md", convert, page)


def convert(journal: Path, name: str, precisions: Sequence[str]) -> None:
    """Convert one architecture to each precision and compare it with Keras."""
    loaded = load(zoo.build(name))
    calibration, samples = (zoo.inputs(loaded.model, *size) for size in ((CALIBRATION, 1), (SAMPLES, 2)))
    reference = loaded.predict(samples)
    converter = find_converter("tflite")
    with tempfile.TemporaryDirectory(prefix="edgekit-matrix-") as folder:
        source = export_source(loaded, Path(folder))
        for precision in precisions:
            cell = run_cell(converter, source, precision, calibration, samples, reference)
            append(journal, (name, precision), cell)


def run_cell(
    converter: Converter,
    source: Source,
    precision: str,
    calibration: Mapping[str, Array],
    samples: Mapping[str, Array],
    reference: Mapping[str, Array],
) -> Cell:
    """ "38 dB, 2.8 MB", or the sentence of the refusal."""
    output = source.work / f"{precision}.tflite"
    try:
        artifact = converter.convert(source, precision=precision, calibration=calibration, output=output)
        outputs = run_file(describe(artifact.path, "tflite"), samples, label=f"{source.name} {precision}")
    except EdgekitError as problem:
        return Cell("refused", str(problem))
    parity = compare_outputs(reference, outputs)
    snr = "equal" if parity.snr_db is None else f"{parity.snr_db:.0f} dB"
    left = f", {len(artifact.float_layers)} float" if artifact.float_layers else ""
    return Cell("ran", f"{snr}, {_short(output.stat().st_size)}{left}")


def page(cells: Mapping[Key, Cell]) -> str:
    """The Markdown page."""
    sentences: list[str] = []
    matrix = table(cells, ARCHITECTURES, PRECISIONS, sentences)
    listed_sentences = "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1))
    counts = counted(cells, ARCHITECTURES, PRECISIONS)
    return _PAGE.format(
        matrix=matrix, sentences=listed_sentences or "None.", counts=counts, samples=SAMPLES, calibration=CALIBRATION
    )


_PAGE = """# Which architecture converts to which TFLite precision

Written by `python benchmarks/tflite_matrix.py`. Each cell gives the signal-to-noise ratio of the outputs in LiteRT
against Keras over {samples} samples, and the file's size. Weights are random and inputs small (`benchmarks/zoo.py`), so
that the figures tell what works and how the precisions compare, not how accurate a trained network is. "float" counts
the operators that stayed float; the report of a build names them. Of all cells: {counts}.

Ranges come from {calibration} samples of random inputs: what lies beyond them is cut off in int8, most of all where two
activations are multiplied (siamese). What keeps int16x8 of the deep networks below 40 dB is the rounding of their int8
weights. Four bits with one scale per output channel are too few for random weights. In loops (LSTM, GRU, BiGRU) weights
alone are integers.

{matrix}

## Sentences

{sentences}
"""


def _short(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


if __name__ == "__main__":
    main()
