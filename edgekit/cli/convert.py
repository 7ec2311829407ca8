"""`edgekit convert MODEL --to FORMAT --precision P -o FILE`: one conversion."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from edgekit.cli.output import add_allow_code, add_architecture, emit, quiet_tensorflow
from edgekit.conversion import check_precision, find_converter
from edgekit.errors import ConversionError
from edgekit.files import atomic

CALIBRATION_SAMPLES = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit convert`."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a .keras or .h5 file, or a SavedModel folder")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="tflite or onnx")
    parser.add_argument(
        "--precision", default="fp32", metavar="P", help="fp32 (default), fp16, int8, int8-float-io, dynamic-int8"
    )
    parser.add_argument("--calibration", metavar="DATA", help="an .npz or module:function of real inputs, for int8")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    add_allow_code(parser)
    add_architecture(parser)


def run(args: argparse.Namespace) -> int:
    """Convert and say what came out."""
    converter = find_converter(args.to)
    check_precision(converter, args.precision)
    if args.output.suffix != converter.suffix:
        raise ConversionError(f"output is {args.output.name}, expected a name that ends in {converter.suffix}")
    sys.path.insert(0, "")  # module:function may stand in this folder
    quiet_tensorflow()
    from edgekit.calibration import representative
    from edgekit.exporting import export_source
    from edgekit.loading import load

    loaded = load(args.model, architecture=args.architecture, allow_code=args.allow_code)
    data = args.calibration and representative(args.calibration, loaded.inputs, samples=CALIBRATION_SAMPLES)
    with tempfile.TemporaryDirectory(prefix="edgekit-convert-") as folder, atomic(args.output) as temporary:
        source = export_source(loaded, Path(folder))
        candidate = Path(folder, f"converted{converter.suffix}")
        artifact = converter.convert(
            source, precision=args.precision, calibration=data.inputs if data else None, output=candidate
        )
        shutil.copyfile(candidate, temporary)
    size = args.output.stat().st_size
    result = {
        "output": str(args.output), "format": args.to, "precision": args.precision, "bytes": size,
        "float_layers": list(artifact.float_layers), "notes": list(artifact.notes),
    }  # fmt: skip
    left = f"; left in float: {', '.join(artifact.float_layers)}" if artifact.float_layers else ""
    emit(args, result, f"{args.output}: {args.to} {args.precision}, {size:,} bytes{left}")
    return 0
