"""What the TensorRT-RTX parser and builder make of the ONNX files of known architectures, and the types it plans.

    python benchmarks/tensorrt_zoo.py [--rows ResNet50] [--columns "int8 dynamic"] [--again] [-o PAGE.md]

Needs the extra tensorrt-rtx and no GPU. Weights are random, with BatchNormalization statistics of real passes; inputs
are those of `benchmarks/zoo.py`. Results are kept in a .jsonl beside the page, and a stopped run goes on with the cells
that are missing.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import zoo  # noqa: E402  # a script's own folder is on the path, the repository is not
from benchmarks.journal import Cell, Key, append, counted, run_matrix, table  # noqa: E402
from edgekit.conversion import Source, find_converter, find_linter  # noqa: E402
from edgekit.errors import EdgekitError  # noqa: E402
from edgekit.exporting import export_source  # noqa: E402
from edgekit.loading import load  # noqa: E402
from edgekit.tensorrt.building import BuildReport, build_engine  # noqa: E402
from edgekit.tensorrt.recipe import Recipe  # noqa: E402
from edgekit.tensorrt.sizes import MAX_BATCH  # noqa: E402
from edgekit.tensors import Array  # noqa: E402

ARCHITECTURES = ("MobileNetV2", "ResNet50", "EfficientNetB0", "transformer")
BATCHES = ("static", "dynamic")
COLUMNS = tuple(f"{precision} {batch}" for precision in ("fp32", "fp16", "int8") for batch in BATCHES)
GPU = "SM86"
CALIBRATION = 32
_TIMEOUT_S = 1800.0


def main() -> None:
    """Run what is missing, and write the page."""
    run_matrix(__doc__ or "", ARCHITECTURES, COLUMNS, ROOT / "docs" / "tensorrt-matrix.md", fill, page)


def fill(journal: Path, name: str, columns: Sequence[str]) -> None:
    """Convert one architecture to each precision, and build each file."""
    loaded = load(zoo.build(name))
    calibration = zoo.inputs(loaded.model, CALIBRATION, 1)
    with tempfile.TemporaryDirectory(prefix="edgekit-matrix-") as folder:
        source = export_source(loaded, Path(folder))
        del loaded
        gc.collect()
        for column in columns:
            append(journal, (name, column), run_cell(source, column, calibration))


def run_cell(source: Source, column: str, calibration: Mapping[str, Array]) -> Cell:
    """ "53 of 53 Int8, built in 2.1 s", or the sentence of the refusal."""
    precision, batch = column.split()
    path = source.work / f"{precision}.onnx"
    try:
        if not path.exists():
            find_converter("onnx").convert(source, precision=precision, calibration=calibration, output=path)
        file = path if batch == "dynamic" else one_sample(path)
        findings = find_linter("onnx").lint(file, tool="tensorrt")
        if findings:
            return Cell("refused", f"{findings[0]}")
        recipe = Recipe(compute_capabilities=(GPU,))
        report = build_engine(file, recipe, source.work / "thrown-away.engine", timeout_s=_TIMEOUT_S)
    except EdgekitError as problem:
        return Cell("refused", str(problem))
    return Cell("ran", described(file, report))


def described(file: Path, report: BuildReport) -> str:
    """What was planned of the layers with weights, and how long it took."""
    from edgekit_tensorrt.checking import planned

    return f"{planned(file, report.plan).replace(' weighted layers planned as', '')}, {report.build_s:.1f} s"


def one_sample(path: Path) -> Path:
    """The same file with a batch of 1."""
    import onnx

    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    static = path.with_name(f"{path.stem}-static.onnx")
    onnx.save(onnx.shape_inference.infer_shapes(model), str(static))
    return static


def page(cells: Mapping[Key, Cell]) -> str:
    """The Markdown page."""
    sentences: list[str] = []
    matrix = table(cells, ARCHITECTURES, COLUMNS, sentences)
    listed_sentences = "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1))
    counts = counted(cells, ARCHITECTURES, COLUMNS)
    return _PAGE.format(
        matrix=matrix, sentences=listed_sentences or "None.", counts=counts, gpu=GPU, batch=MAX_BATCH,
        calibration=CALIBRATION,
    )  # fmt: skip


_PAGE = """# What TensorRT-RTX makes of known architectures

Written by `python benchmarks/tensorrt_zoo.py`. Each cell is an ONNX file that TensorRT's rules were held against, and
that the TensorRT-RTX parser and builder took for {gpu}: how many of the layers with weights its plan computes in which
type, and the seconds of parsing and building on two cores without a GPU, which did other work at the same time.
"static" is a batch of 1, "dynamic" one of 1 to {batch}. Weights are random and inputs small (`benchmarks/zoo.py`);
ranges of int8 come from {calibration} samples. Of all cells: {counts}.

"Accepted by the TensorRT-RTX parser and builder" is no run on a GPU, and another product than a Jetson's TensorRT. "An
unnamed kernel" is a layer that the plan does not name.

{matrix}

## Sentences

{sentences}
"""


if __name__ == "__main__":
    main()
