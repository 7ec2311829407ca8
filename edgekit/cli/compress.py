"""`edgekit compress MODEL --recipe R.toml --data D -o OUT.keras`: compression alone."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from edgekit.cli.output import (
    add_allow_code,
    add_architecture,
    add_lengths,
    emit,
    lengths_of,
    progress,
    quiet_tensorflow,
)
from edgekit.cli.progress import shown_progress
from edgekit.errors import OutputError
from edgekit.files import workspace
from edgekit.recipe import load_recipe

STEPS = "steps"  # the checkpoints, in the work folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit compress`."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a Keras model file")
    parser.add_argument(
        "--recipe", type=Path, required=True, metavar="R.toml", help="[[compress]] tables as in a project file"
    )
    parser.add_argument("--data", metavar="D", help="training data: an .npz or module:function")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.keras")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every random choice (default: 0)")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    add_architecture(parser)
    add_lengths(parser)
    add_allow_code(parser)


def run(args: argparse.Namespace) -> int:
    """Compress and say what came out."""
    recipe = load_recipe(args.recipe)
    if args.output.suffix != ".keras":
        raise OutputError(f"output is {args.output.name}, expected a name that ends in .keras")
    quiet_tensorflow()
    from edgekit.compression import compress
    from edgekit.loading import load

    for folder in (str(args.recipe.resolve().parent), ""):  # where module:function may stand
        sys.path.insert(0, folder)
    loaded = load(args.model, architecture=args.architecture, allow_code=args.allow_code, lengths=lengths_of(args))
    try:
        with workspace(args.output, resume=args.resume, worth_keeping=STEPS) as work:
            made = compress(
                loaded, *recipe.steps, data=args.data, training=recipe.training, checkpoints=work / STEPS,
                seed=args.seed, progress=shown_progress(),
            )  # fmt: skip
            made.save(args.output)
    except KeyboardInterrupt:
        progress("stopped; the same command with --resume goes on after the last whole epoch")
        raise
    result = {
        "output": str(args.output), "bytes": args.output.stat().st_size, "parameters": made.parameters,
        "original_parameters": loaded.parameters, "sparsity": made.sparsity,
        "recipe": list(made.origin.recipe) if made.origin else [],
        "notes": [dataclasses.asdict(note) for note in made.notes],
    }  # fmt: skip
    emit(args, result, f"{args.output}: from {loaded.parameters:,} parameters\n{made.summary()}")
    return 0
