"""`edgekit run BUNDLE --input X -o Y.npz`: run a bundle once, on arrays, a picture, a sound or a prompt."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Any: keyword arguments of two functions

from edgekit.bundle import Bundle
from edgekit.cli import run_text
from edgekit.cli.output import add_accelerator, add_require_signature, add_vendor_wheels, emit, trust_of
from edgekit.cli.progress import show
from edgekit.cli.raw_inputs import inputs_of
from edgekit.cli.top import check_classes, top_classes, top_text
from edgekit.errors import ConfigError
from edgekit.manifest import Manifest
from edgekit.runtime import Choice, open_session
from edgekit.runtime.arrays import write_npz
from edgekit.runtime.sequences import run_samples
from edgekit.tensors import Array
from edgekit.trust import check_signature

TOP = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit run`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--input", type=Path, metavar="X",
        help="an .npz with one array for each model input, an .npy of the only one; or a picture or .wav file, which "
        "become inputs as the bundle declares",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, metavar="Y.npz", help="where the outputs go")
    parser.add_argument(
        "--top", type=int, metavar="N", help=f"print the N classes with the highest scores (default without -o: {TOP})"
    )
    parser.add_argument(
        "--preprocess", action="store_true", help="the arrays are raw pixels from 0 to 255, or sound samples"
    )
    parser.add_argument("--variant", metavar="ID", help="a variant of the bundle (default: the best that runs here)")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--device", metavar="URL", help="run it there (default: in this process)")
    add_accelerator(parser)
    run_text.add_arguments(parser.add_argument_group("language models (docs/language-models.md)"))
    add_vendor_wheels(parser)
    add_require_signature(parser)


def run(args: argparse.Namespace) -> int:
    """Run once; write the outputs and print the best classes, or the text that follows on a prompt."""
    run_text.check(args)
    if args.prompt is not None:
        if args.accelerator is not None:
            raise ConfigError("--accelerator goes with --input: leave it out, a language model runs on the CPU")
        return run_text.run(args)
    count = TOP if args.top is None and args.output is None else args.top
    if count is not None and count < 1:
        raise ConfigError(f"--top is {count}, expected 1 or more")
    manifest, outputs, choice = (_run_here if args.device is None else _run_there)(args, ranked=count is not None)
    if args.output is not None:
        write_npz(args.output, outputs)
    place = args.input if args.output is None else args.output
    ran = f"{place}: {choice.variant} on {choice.package} {choice.engine_version}, {choice.accelerator}"
    text = "\n".join((ran, *choice.notes))
    result = {
        "output": None if args.output is None else str(args.output),
        "device": args.device,
        "choice": dataclasses.asdict(choice),
    }
    if count is not None:
        samples = top_classes(outputs, manifest.labels, count)
        result["top"] = [[dataclasses.asdict(ranked) for ranked in sample] for sample in samples]
        text = f"{text}\n{top_text(samples)}"
    emit(args, result, text)
    return 0


def _run_here(args: argparse.Namespace, *, ranked: bool) -> tuple[Manifest, Mapping[str, Array], Choice]:
    with Bundle.open(args.bundle) as bundle:
        check_signature(bundle, require=args.require_signature, trust=args.trust)
        with open_session(bundle, **_wanted(args), trust=args.trust) as session:
            inputs = _inputs(args, bundle.manifest, ranked=ranked)
            return bundle.manifest, run_samples(session, inputs), session.choice


def _run_there(args: argparse.Namespace, *, ranked: bool) -> tuple[Manifest, Mapping[str, Array], Choice]:
    from edgekit.devices import deploy, opened_device

    with opened_device(args.device) as device:
        show(device)
        deployed = deploy(args.bundle, device, vendor_wheels=args.vendor_wheels, **trust_of(args))
        inputs = _inputs(args, deployed.manifest, ranked=ranked)
        result = deployed.run(inputs, **_wanted(args))
    return deployed.manifest, result.outputs, result.choice


def _wanted(args: argparse.Namespace) -> dict[str, Any]:
    return {"variant": args.variant, "threads": args.threads, "accelerator": args.accelerator}


def _inputs(args: argparse.Namespace, manifest: Manifest, *, ranked: bool) -> dict[str, Array]:
    if ranked:
        check_classes(manifest.outputs)
    return inputs_of(args.input, manifest.inputs, preprocess=args.preprocess)
