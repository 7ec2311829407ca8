"""`edgekit convert MODEL --to FORMAT --precision P -o FILE`: one conversion."""

from __future__ import annotations

import argparse
import gc
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from edgekit.bundle_exporters import exporter_names
from edgekit.cli import convert_bundle
from edgekit.cli.engine_settings import FLAGS, add_engine_settings, engine_settings, watched
from edgekit.cli.output import (
    add_allow_code,
    add_architecture,
    add_lengths,
    add_require_signature,
    emit,
    lean_tensorflow,
    lengths_of,
)
from edgekit.conversion import (
    INPUTS_OUTPUTS,
    STATEFUL_FORMATS,
    VARIABLES,
    Converter,
    NpuConverter,
    Source,
    check_precision,
    find_converter,
)
from edgekit.errors import ConfigError, ConversionError
from edgekit.files import atomic, place_beside
from edgekit.given import BUILT, converted_source, engine_source, saved_model_source
from edgekit.model_files import CONVERTED

CALIBRATION_SAMPLES = 200
DEFAULT_PRECISION = "fp32"
STATEFUL = "tflite"  # the format that keeps state in variables
DECODERS = (STATEFUL, "onnx")  # those that have a decoder's form
ENGINES = "tensorrt"  # the format that is built from an .onnx file as it is

_OWN = (
    "calibration",
    "npu",
    "state",
    "context",
    "prefill",
    "allow_code",
    "architecture",
    "length",
    "signature",
)  # not of bundles
_SETTINGS = {  # flag -> key of `[convert.FORMAT]`
    "keep_float": "keep_float",
    "layer": "layers",
    "op": "ops",
    "algorithm": "algorithm",
    "calibration_method": "calibration",
    "percentile": "percentile",
    "no_bias_correction": "bias_correction",
    "equalization": "equalization",
    "no_smoothing": "smoothing",
    "block_size": "block_size",
    "weight_only": "weight_only",
    "dynamic_batch": "dynamic_batch",
    "layout": "layout",
    "batch": "batch",
    "opset": "opset",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit convert`."""
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="a .keras or .h5 file, a SavedModel folder, a float .tflite or .onnx; with --to triton a bundle",
    )
    parser.add_argument("--to", required=True, metavar="FORMAT", help="tflite, onnx, tensorrt or triton")
    parser.add_argument(
        "--precision", metavar="P",
        help="fp32 (default), fp16, int8; tflite also int8-float-io, dynamic-int8, int16x8, int4-weights; "
        "triton: of the variant that is served",
    )  # fmt: skip
    parser.add_argument(
        "--calibration", metavar="DATA", help="an .npz or module:function of real inputs, for integers and fp16 ONNX"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="triton: the model repository")
    parser.add_argument(
        "--npu", metavar="VENDOR:SOC", help="compile the .tflite ahead of time for a phone's NPU: qualcomm:SM8650"
    )
    parser.add_argument(
        "--state",
        metavar="FORM",
        help="of a model with stateful=True: variables, or inputs-outputs",
    )
    parser.add_argument(
        "--context", type=int, metavar="N",
        help="of a causal decoder: a .tflite with the signatures prefill and decode that keeps up to N tokens, or an "
        ".onnx that takes and gives their keys and values",
    )  # fmt: skip
    parser.add_argument(
        "--prefill", type=int, metavar="N", help="with --context, tflite: tokens of a prompt at once, 32"
    )
    _add_common_settings(parser.add_argument_group("settings of integer files"))
    _add_settings(parser.add_argument_group("settings of TFLite files (docs/phones.md)"))
    convert_bundle.add_arguments(parser.add_argument_group("settings of --to triton (docs/triton.md)"))
    add_engine_settings(parser.add_argument_group("settings of TensorRT engines (docs/tensorrt.md)"))
    _add_onnx_settings(parser.add_argument_group("settings of ONNX files (docs/onnx.md)"))
    add_require_signature(parser)
    add_allow_code(parser)
    add_architecture(parser)
    add_lengths(parser)
    parser.add_argument(
        "--signature", action="append", metavar="NAME", help="of a SavedModel without Keras; several make one .tflite"
    )


def run(args: argparse.Namespace) -> int:
    """Convert and say what came out."""
    if args.to in exporter_names():
        convert_bundle.refuse(args, (*_OWN, *_SETTINGS, *FLAGS))
        return convert_bundle.run(args)
    converter = find_converter(args.to)
    convert_bundle.refuse(args, (*convert_bundle.SETTINGS, *convert_bundle.TRUST))
    precision = args.precision or DEFAULT_PRECISION
    check_precision(converter, precision)
    settings = _settings(args) | engine_settings(args)
    if settings:
        converter = converter.with_options(settings, where=f"settings of --to {args.to}")
    if args.output.suffix != converter.suffix:
        raise ConversionError(f"output is {args.output.name}, expected a name that ends in {converter.suffix}")
    compile_npu = _npu_compiler(converter, args.npu) if args.npu else None
    sys.path.insert(0, "")  # module:function may stand in this folder
    with tempfile.TemporaryDirectory(prefix="edgekit-convert-") as folder, atomic(args.output) as temporary:
        source = _source(args, converter, Path(folder))
        gc.collect()  # the Keras model has been exported: its weights go before the workers read them
        from edgekit.calibration import doubts, representative

        data = args.calibration and representative(args.calibration, source.inputs, samples=CALIBRATION_SAMPLES)
        candidate = Path(folder, "converted", args.output.name)
        candidate.parent.mkdir()
        with watched(converter) as watching:
            artifact = watching.convert(
                source, precision=precision, calibration=data.inputs if data else None, output=candidate
            )
        notes = [*artifact.notes, *(doubts(data) if data else ())]
        if compile_npu is None:
            shutil.copyfile(candidate, temporary)
        else:
            notes.append(compile_npu(candidate, temporary))
        data = artifact.data and place_beside(artifact.data, args.output)
    size, beside = args.output.stat().st_size, data.stat().st_size if data else 0
    result = {
        "output": str(args.output), "format": args.to, "precision": artifact.precision, "bytes": size + beside,
        "data": data and str(data), "float_layers": list(artifact.float_layers), "notes": notes,
    }  # fmt: skip
    left = f"; left in float: {', '.join(artifact.float_layers)}" if artifact.float_layers else ""
    weights = f" and {beside:,} in {data.name}, which belongs beside it" if data else ""
    lines = [f"{args.output}: {args.to} {artifact.precision}, {size:,} bytes{weights}{left}", *notes]
    emit(args, result, "\n".join(lines))
    return 0


def _source(args: argparse.Namespace, converter: Converter, work: Path) -> Source:
    if args.state is not None and converter.format not in STATEFUL_FORMATS:
        formats = " and ".join(STATEFUL_FORMATS)
        raise ConfigError(f"--state is for --to {formats}, not {converter.format}: leave it out")
    if args.state == VARIABLES and converter.format != STATEFUL:
        raise ConfigError(f"--to {converter.format} has no variables: choose --state {INPUTS_OUTPUTS}")
    _check_context(args, converter)
    lengths = lengths_of(args)
    if args.context is not None and _is_pretrained(args.model):
        return _pretrained_decoder(args, work)
    if args.model.suffix == BUILT and converter.format == ENGINES:
        _check_bare(args)
        _check_no_flag(args, "--length", args.length)
        return engine_source(args.model, work, precision=args.precision)
    if args.model.suffix in CONVERTED:
        _check_bare(args)
        return converted_source(args.model, converter, work, lengths=lengths)
    lean_tensorflow()
    from edgekit.exporting import export_source
    from edgekit.loading import load
    from edgekit.model_files import Kind
    from edgekit.opening_files import examine_apart

    if args.model.is_dir() and examine_apart(args.model)[0] is Kind.PLAIN_SAVED_MODEL:
        _check_no_flag(args, "--state", args.state)
        _check_no_flag(args, "--length", args.length)
        return saved_model_source(args.model, work, allow_code=args.allow_code, signatures=args.signature or ())
    _check_no_signature(args)
    if args.context is not None:
        return _decoder_source(args, work)
    loaded = load(args.model, architecture=args.architecture, allow_code=args.allow_code, lengths=lengths)
    return export_source(loaded, work, state=args.state, signatures=converter.signatures)


def _check_context(args: argparse.Namespace, converter: Converter) -> None:
    """Raise ConfigError for flags of a decoder where they mean nothing."""
    if args.context is not None and converter.format not in DECODERS:
        raise ConfigError(f"--context is for --to {' or '.join(DECODERS)}, not {converter.format}: leave it out")
    if args.context is None and args.prefill is not None:
        raise ConfigError("--prefill goes with --context: give both, or leave it out")
    if args.prefill is not None and converter.format != STATEFUL:
        raise ConfigError(
            f"--prefill is for --to {STATEFUL}: a decoder's {converter.suffix} takes any number of tokens"
        )


def _is_pretrained(path: Path) -> bool:
    from edgekit.language import is_pretrained

    return is_pretrained(path)


def _pretrained_decoder(args: argparse.Namespace, work: Path) -> Source:
    """In a process of its own, which gives back the memory of TensorFlow and of the weights."""
    from edgekit.decoding_worker import export_apart

    _check_no_flag(args, "--state", args.state)
    _check_no_flag(args, "--architecture", args.architecture)
    _check_no_signature(args)
    return export_apart(args.model, work, format_name=args.to, context=args.context, prefill=_prefill(args))


def _decoder_source(args: argparse.Namespace, work: Path) -> Source:
    from edgekit.decoding import export_decoder
    from edgekit.decoding_past import export_with_past
    from edgekit.loading import load

    _check_no_flag(args, "--state", args.state)
    lengths = lengths_of(args)
    loaded = load(args.model, architecture=args.architecture, allow_code=args.allow_code, lengths=lengths)
    if args.to != STATEFUL:
        return export_with_past(loaded, work, context=args.context)
    return export_decoder(loaded, work, context=args.context, prefill=_prefill(args))


def _prefill(args: argparse.Namespace) -> int:
    from edgekit.decoding import DEFAULT_PREFILL

    return DEFAULT_PREFILL if args.prefill is None else int(args.prefill)


def _check_bare(args: argparse.Namespace) -> None:
    """Raise ConfigError for flags that mean nothing for a file that is converted already."""
    _check_no_flag(args, "--context", args.context)
    _check_no_flag(args, "--state", args.state)
    _check_no_flag(args, "--architecture", args.architecture)
    _check_no_signature(args)


def _check_no_flag(args: argparse.Namespace, flag: str, value: object) -> None:
    """Raise ConfigError for a flag that only a Keras model gives a meaning."""
    if value is not None:
        raise ConfigError(f"{flag} is for a Keras model, and {args.model.name} holds none: leave it out")


def _check_no_signature(args: argparse.Namespace) -> None:
    """Raise ConfigError for --signature of what is no plain SavedModel."""
    if args.signature is not None:
        raise ConfigError(f"--signature is for a SavedModel without Keras, and {args.model.name} is none: leave it out")


def _npu_compiler(converter: Converter, npu: str) -> Callable[[Path, Path], str]:
    if not isinstance(converter, NpuConverter):
        raise ConfigError(f"--npu is for --to tflite, not {converter.format}: leave it out")
    return converter.npu_compiler(npu)


def _add_common_settings(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--keep-float", action="append", metavar="PATTERN", help="layers that stay float; repeatable")
    group.add_argument(
        "--calibration-method", metavar="M",
        help="of ranges: min-max, percentile, mse, auto; tflite (default min-max) also moving-average, onnx (default "
        "auto) also entropy",
    )  # fmt: skip
    group.add_argument("--percentile", type=float, metavar="N", help="of values in range, default 99.99")
    group.add_argument(
        "--no-bias-correction",
        action="store_const",
        const=False,
        help="keep the biases as the float model has them",
    )


def _add_onnx_settings(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--layout", metavar="L", help="of image inputs: nhwc (default) as in Keras, or nchw")
    group.add_argument("--batch", metavar="B", help="dynamic (default), or static: 1")
    group.add_argument("--opset", type=int, metavar="N", help="18 (default) or 17")
    group.add_argument(
        "--no-smoothing",
        action="store_const",
        const=False,
        help="of int8: leave outliers of activations where they are",
    )


def _add_settings(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--layer", action="append", metavar="PATTERN=P", help="precision of layers; repeatable")
    group.add_argument("--op", action="append", metavar="TYPE=P", help="precision of an operator type; repeatable")
    group.add_argument("--algorithm", metavar="A", help="of weights: min-max (default), mse, octav, gptq, hadamard")
    group.add_argument(
        "--equalization", metavar="E", help="of channels between layers: off (default), on, auto: what measures best"
    )
    group.add_argument("--block-size", type=int, metavar="N", help="of int4 weights: 32, 64, 128 or 256")
    group.add_argument(
        "--weight-only",
        action="store_const",
        const=True,
        help="of dynamic-int8 and int4-weights: weights become floats where they are used, activations stay float",
    )
    group.add_argument(
        "--dynamic-batch",
        action="store_const",
        const=True,
        help="inputs can be resized to any batch; of all precisions",
    )


def _settings(args: argparse.Namespace) -> dict[str, object]:
    """What the flags say, under the keys of `[convert.FORMAT]`."""
    given = {key: getattr(args, flag) for flag, key in _SETTINGS.items()}
    given |= {"layers": _pairs("--layer", args.layer), "ops": _pairs("--op", args.op)}
    return {key: value for key, value in given.items() if value is not None}


def _pairs(flag: str, words: Sequence[str] | None) -> dict[str, str] | None:
    if words is None:
        return None
    pairs = [word.rpartition("=") for word in words]
    for word, (pattern, equals, precision) in zip(words, pairs, strict=True):
        if not (pattern and equals and precision):
            raise ConfigError(f"{flag} is '{word}', expected PATTERN=PRECISION, for example 'head=fp16'")
    return {pattern: precision for pattern, _, precision in pairs}
