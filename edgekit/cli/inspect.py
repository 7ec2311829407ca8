"""`edgekit inspect FILE`: what is inside a model, a converted file or a bundle."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.cli import metadata
from edgekit.cli.output import add_allow_code, add_architecture, add_lengths, emit, lengths_of, quiet_tensorflow
from edgekit.cli.table import table
from edgekit.conversion import Finding, Inspection, find_linter
from edgekit.errors import ConfigError
from edgekit.manifest import Manifest
from edgekit.preprocessing.declared import Audio, LogMel, Picture, Preprocessing
from edgekit.tensors import TensorSpec
from edgekit.trust import TRUSTED, Signer, describe, signers

LINTED = ".onnx"  # the suffix of files that --for is for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit inspect`."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a model (.keras, .h5, a SavedModel), .tflite, .onnx or .edgekit"
    )
    parser.add_argument(
        "--for", dest="tool", metavar="TOOL", help="hold an .onnx file against the rules of a tool: tensorrt"
    )
    add_allow_code(parser)
    add_architecture(parser)
    add_lengths(parser)


def run(args: argparse.Namespace) -> int:
    """Look inside; a bundle's members are verified. 1 when a tool's rules are broken."""
    if args.tool is not None and args.file.suffix != LINTED:
        raise ConfigError(f"--for is for {LINTED} files, and {args.file.name} is none: leave it out")
    if args.file.suffix == ".edgekit":
        with Bundle.open(args.file) as bundle:
            bundle.verify()
            signed = signers(bundle)
            emit(args, _bundle_json(bundle.manifest, signed), _bundle_text(bundle.manifest, signed))
        return 0
    sys.path.insert(0, "")  # module:function may stand in this folder
    from edgekit.inspection import FORMAT_OF_SUFFIX, inspect

    if args.file.suffix not in FORMAT_OF_SUFFIX:
        quiet_tensorflow()
    found = inspect(args.file, architecture=args.architecture, allow_code=args.allow_code, lengths=lengths_of(args))
    if args.tool is None:
        emit(args, dataclasses.asdict(found), _model_text(found))
        return 0
    findings = find_linter(found.format).lint(args.file, tool=args.tool)
    told = {"findings": [dataclasses.asdict(finding) for finding in findings]}
    emit(args, dataclasses.asdict(found) | told, f"{_model_text(found)}\n\n{_findings_text(findings, args.tool)}")
    return 1 if findings else 0


def _findings_text(findings: Sequence[Finding], tool: str) -> str:
    if not findings:
        return f"no rule of {tool} is broken"
    return "\n".join([f"{len(findings)} finding{'s' if len(findings) != 1 else ''} for {tool}", *map(str, findings)])


def _bundle_json(manifest: Manifest, signed: tuple[Signer, ...]) -> dict[str, object]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "signed_by": [it.key_id for it in signed if it.status == TRUSTED],
        "signatures": [dataclasses.asdict(it) for it in signed],
        "format": "bundle",
        "inputs": [dataclasses.asdict(item) for item in manifest.inputs],
        "outputs": [dataclasses.asdict(item) for item in manifest.outputs],
        "variants": [dataclasses.asdict(variant) for variant in manifest.variants],
        **({} if manifest.language is None else {"language": dataclasses.asdict(manifest.language)}),
    }


def _bundle_text(manifest: Manifest, signed: tuple[Signer, ...]) -> str:
    rows = [("variant", "bytes", "engine", "metrics", "targets")]
    for variant in manifest.variants:
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in variant.metrics.items())
        rows.append((variant.id, f"{variant.member.bytes:,}", variant.engine, metrics, ", ".join(variant.targets)))
    ports = _ports([item.spec for item in manifest.inputs], manifest.outputs)
    said = describe(signed)
    declared = "".join(
        f"\n'{item.name}' from {_settings(item.preprocessing)}" for item in manifest.inputs if item.preprocessing
    )
    head = f"{manifest.name} {manifest.version}, every member's hash verified, {said}"
    return f"{head}\n{ports}{declared}{_language(manifest)}\n\n{table(rows)}"


def _language(manifest: Manifest) -> str:
    found = manifest.language
    if found is None:
        return ""
    return (
        f"\na language model: {found.context} tokens of context, a prompt in pieces of {found.prefill}, stop tokens "
        f"{', '.join(map(str, found.stop_tokens)) or 'none'}, {found.cache_bytes:,} bytes of keys and values"
    )


def _settings(declared: Preprocessing | Picture | Audio | LogMel) -> str:
    """What is not as by default: `picture (resize 8 8, std 255.0)`."""
    words = []
    for field in dataclasses.fields(declared):
        value = getattr(declared, field.name)
        if dataclasses.is_dataclass(value):
            words.append(f"{field.name} ({_settings(value)})")  # type: ignore[arg-type]
        elif value != field.default:
            words.append(f"{field.name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}")
    return ", ".join(words)


def _model_text(found: Inspection) -> str:
    rows = [("layer", "type", "bytes", "precision", "sparsity")]
    for layer in found.layers:
        sparsity = "" if layer.sparsity is None else f"{layer.sparsity:.0%}"
        rows.append((layer.name[-48:], layer.type, f"{layer.bytes:,}", layer.precision, sparsity))
    head = f"{found.format}, {found.bytes:,} bytes, {found.parameters:,} parameters"
    ports = [_ports(found.inputs, found.outputs)]
    if len(found.signatures) > 1:
        ports = [f"signature '{it.name}'\n{_ports(it.inputs, it.outputs)}" for it in found.signatures]
    described = "\n".join([head, *ports, *metadata.lines(found)])
    return f"{described}\n\n{table(rows)}"


def _ports(inputs: list[TensorSpec] | tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> str:
    return "\n".join([*(f"input  {spec}" for spec in inputs), *(f"output {spec}" for spec in outputs)])
