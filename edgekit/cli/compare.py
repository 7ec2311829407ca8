"""`edgekit compare A B --data D [--layers]`: how near B is to A, and which layers cost what."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from edgekit.cli.output import add_allow_code, add_architecture, emit, quiet_tensorflow
from edgekit.cli.progress import shown_progress
from edgekit.cli.table import table

if TYPE_CHECKING:
    from edgekit.comparing import Comparison
    from edgekit.comparison import LayerComparison, LayerParity

SHOWN_CULPRITS = 5
CONVERTED = (".tflite", ".onnx", ".edgekit")  # what needs no Keras
HEADINGS = ("layer", "operator", "SNR dB", "introduced dB", "output dB", "cosine", "saturation")
_NAME_WIDTH = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit compare`."""
    sides = "a Keras model, a .tflite or .onnx file, or bundle.edgekit#variant-id"
    parser.add_argument("reference", metavar="A", help=f"the float side: {sides}")
    parser.add_argument("other", metavar="B", help=f"what is compared with it: {sides}")
    parser.add_argument("--data", required=True, metavar="DATA", help="an .npz or module:function of real inputs")
    parser.add_argument("--samples", type=int, default=64, metavar="N", help="rows used, spread over the data (64)")
    parser.add_argument("--layers", action="store_true", help="also compare layer by layer, and name the culprits")
    add_allow_code(parser)
    add_architecture(parser)


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    sys.path.insert(0, "")  # module:function may stand in this folder
    if not all(side.partition("#")[0].endswith(CONVERTED) for side in (args.reference, args.other)):
        quiet_tensorflow()
    from edgekit.comparing import compare

    found = compare(
        args.reference,
        args.other,
        args.data,
        samples=args.samples,
        layers=args.layers,
        architecture=args.architecture,
        allow_code=args.allow_code,
        progress=shown_progress(),
    )
    emit(args, _json(args, found), _text(args, found))
    return 0


def _json(args: argparse.Namespace, found: Comparison) -> dict[str, object]:
    result = {"reference": args.reference, "other": args.other, "samples": found.samples}
    result |= dataclasses.asdict(found.outputs)
    if found.layers is not None:
        result["layers"] = [{**dataclasses.asdict(layer), "reason": layer.reason} for layer in found.layers.layers]
        result["culprits"] = [layer.tensor for layer in found.layers.culprits(SHOWN_CULPRITS)]
        result["output_samples"] = found.layers.output_samples
        result["unmatched"] = list(found.layers.unmatched)
    return result


def _text(args: argparse.Namespace, found: Comparison) -> str:
    parity = found.outputs
    agreement = "" if parity.top1_agreement is None else f", top-1 agreement {parity.top1_agreement:.1%}"
    lines = [
        f"{args.other} against {args.reference}, {found.samples} samples: largest difference {parity.max_abs:.4g}, "
        f"cosine {_cosine(parity.cosine)}, SNR {_decibels(parity.snr_db)} dB{agreement}"
    ]
    if found.layers is not None:
        lines += ["", *_layers_text(found.layers)]
    return "\n".join(lines)


def _layers_text(found: LayerComparison) -> list[str]:
    lines = [table([HEADINGS, *(_row(layer) for layer in found.layers)]), ""]
    culprits = found.culprits(SHOWN_CULPRITS)
    if not culprits:
        lines.append("No layer introduces an error that reaches an output.")
    else:
        lines.append("Culprits, by the SNR of the outputs if that layer alone were quantized:")
    for place, layer in enumerate(culprits, start=1):
        lines.append(f"{place}. {layer.name} ({layer.operator}), {_decibels(layer.output_db)} dB")
        lines.extend(f"   {reason.text}" for reason in layer.reasons)
    if found.unmatched:
        names = ", ".join(found.unmatched)
        lines.append(f"Not compared, since the float file has no tensor of that name alone: {names}")
    return lines


def _row(layer: LayerParity) -> tuple[str, ...]:
    return (
        layer.name[-_NAME_WIDTH:],
        layer.operator[:_NAME_WIDTH],
        _decibels(layer.snr_db),
        _decibels(layer.introduced_db),
        _decibels(layer.output_db),
        _cosine(layer.cosine),
        "" if layer.saturation is None else f"{layer.saturation:.2%}",
    )


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _cosine(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"
