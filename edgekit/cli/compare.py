"""`edgekit compare A B --data D [--layers] [--fix]`: how near B is to A, which layers cost what, and their repair.

Of two folders of builds, what changed.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from edgekit.cli import compare_builds
from edgekit.cli.output import add_allow_code, add_architecture, add_lengths, emit, lengths_of, quiet_tensorflow
from edgekit.cli.progress import shown_progress
from edgekit.cli.table import table
from edgekit.errors import ConfigError

if TYPE_CHECKING:
    from edgekit.comparing import Comparison
    from edgekit.comparison import LayerComparison, LayerParity

SHOWN_CULPRITS = 5
CONVERTED = (".tflite", ".onnx", ".edgekit")  # what needs no Keras
HEADINGS = ("layer", "operator", "SNR dB", "introduced dB", "output dB", "cosine", "saturation")
_NAME_WIDTH = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit compare`."""
    sides = "a Keras model, a .tflite or .onnx file, bundle.edgekit#variant-id; or the folder of a build"
    parser.add_argument("reference", metavar="A", help=f"the float side: {sides}")
    parser.add_argument("other", metavar="B", help=f"what is compared with it: {sides}")
    parser.add_argument("--data", metavar="DATA", help="an .npz or module:function of real inputs; not for builds")
    parser.add_argument("--samples", type=int, default=64, metavar="N", help="rows used, spread over the data (64)")
    parser.add_argument("--layers", action="store_true", help="also compare layer by layer, and name the culprits")
    group = parser.add_argument_group("repair of an int8 .tflite or .onnx (docs/comparing.md)")
    group.add_argument(
        "--fix", action="store_true", help="keep as few layers wider as needed; with --layers, which it implies"
    )
    group.add_argument("-o", "--output", metavar="FILE", help="where --fix writes the new file")
    group.add_argument("--max-drop", type=float, metavar="POINTS", help="of top-1 below A that --fix allows (0.5)")
    group.add_argument("--min-snr", type=float, metavar="DB", help="SNR that --fix reaches instead, for any outputs")
    group.add_argument("--calibration", metavar="DATA", help="what --fix measures ranges on (default: --data)")
    add_allow_code(parser)
    add_architecture(parser)
    add_lengths(parser)


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    if compare_builds.are_builds(args):
        return compare_builds.run(args)
    if args.data is None:
        raise ConfigError("--data is missing: say on which inputs the two are compared")
    sys.path.insert(0, "")  # module:function may stand in this folder
    if not all(side.partition("#")[0].endswith(CONVERTED) for side in (args.reference, args.other)):
        quiet_tensorflow()
    return _fix(args) if _wants_fix(args) else _compare(args)


def _compare(args: argparse.Namespace) -> int:
    from edgekit.comparing import compare

    found = compare(
        args.reference,
        args.other,
        args.data,
        samples=args.samples,
        layers=args.layers,
        architecture=args.architecture,
        allow_code=args.allow_code,
        lengths=lengths_of(args),
        progress=shown_progress(),
    )
    emit(args, _json(args, found), _text(args, found))
    return 0


def _wants_fix(args: argparse.Namespace) -> bool:
    """Raise ConfigError for a flag of --fix without it, and for --fix without an output."""
    if args.fix and args.output is None:
        raise ConfigError("--fix writes a file: say where with -o FILE")
    flags = {
        "-o": args.output, "--max-drop": args.max_drop, "--min-snr": args.min_snr, "--calibration": args.calibration
    }  # fmt: skip
    alone = next((flag for flag, value in flags.items() if value is not None), None)
    if alone is not None and not args.fix:
        raise ConfigError(f"{alone} is for --fix: add it, or leave {alone} out")
    return bool(args.fix)


def _fix(args: argparse.Namespace) -> int:
    from edgekit.cli.fix_report import fix_json, fix_lines
    from edgekit.fixing import fix, widened
    from edgekit.goals import Budget

    found = fix(
        args.reference,
        args.other,
        args.data,
        args.output,
        samples=args.samples,
        budget=Budget(args.max_drop, args.min_snr),
        calibration=args.calibration,
        architecture=args.architecture,
        allow_code=args.allow_code,
        lengths=lengths_of(args),
        progress=shown_progress(),
    )
    best = found.best
    settings = widened(best.precision, best.layers) if best and best.met and best.layers else {}
    result = {**_json(args, found.comparison), "fix": fix_json(found, args.output, settings)}
    text = "\n".join([_text(args, found.comparison), "", *fix_lines(found, args.output, settings)])
    emit(args, result, text)
    return 0 if found.met else 1


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
