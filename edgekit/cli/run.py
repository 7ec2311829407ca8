"""`edgekit run BUNDLE --input X.npz -o Y.npz`: run a bundle once."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from edgekit.cli.output import add_require_signature, emit, trust_of
from edgekit.runtime import Choice, open_bundle
from edgekit.runtime.arrays import read_inputs, write_npz


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit run`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--input", type=Path, required=True, metavar="X.npz", help="one array for each model input")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="Y.npz", help="where the outputs go")
    parser.add_argument("--variant", metavar="ID", help="a variant of the bundle (default: the best that runs here)")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--device", metavar="URL", help="run it there (default: in this process)")
    add_require_signature(parser)


def run(args: argparse.Namespace) -> int:
    """Run once and write the outputs."""
    choice = _run_here(args) if args.device is None else _run_there(args)
    text = f"{args.output}: {choice.variant} on {choice.package} {choice.engine_version}, {choice.accelerator}"
    emit(args, {"output": str(args.output), "device": args.device, "choice": dataclasses.asdict(choice)}, text)
    return 0


def _run_here(args: argparse.Namespace) -> Choice:
    with open_bundle(args.bundle, variant=args.variant, threads=args.threads, **trust_of(args)) as session:
        write_npz(args.output, session.run(read_inputs(args.input, session.inputs)))
        return session.choice


def _run_there(args: argparse.Namespace) -> Choice:
    from edgekit.devices import deploy, opened_device

    with opened_device(args.device) as device:
        deployed = deploy(args.bundle, device, **trust_of(args))
        inputs = read_inputs(args.input, [item.spec for item in deployed.manifest.inputs])
        result = deployed.run(inputs, variant=args.variant, threads=args.threads)
    write_npz(args.output, result.outputs)
    return result.choice
