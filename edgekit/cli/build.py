"""`edgekit build PROJECT.toml -o DIR`: the bundle and its report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgekit.cli import summary
from edgekit.cli.output import add_allow_code, add_architecture, emit, lean_tensorflow, progress, quiet_tensorflow
from edgekit.cli.progress import shown_progress
from edgekit.decoders.settings import is_language_project, load_language_project
from edgekit.errors import ConfigError
from edgekit.given import given_format
from edgekit.project import load_project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit build`."""
    parser.add_argument("project", type=Path, metavar="PROJECT.toml")
    parser.add_argument("-o", "--output", type=Path, default=Path("out"), metavar="DIR", help="default: out")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted build stopped")
    parser.add_argument(
        "--device", metavar="URL", help="where the bundle is timed and tested; default: the project's, or local:"
    )
    add_allow_code(parser)
    add_architecture(parser)


def run(args: argparse.Namespace) -> int:
    """Build; 1 when a budget was not met or a device test failed."""
    if is_language_project(args.project):
        return _run_language(args)
    project = load_project(args.project)
    if given_format(project.model) is None:
        quiet_tensorflow()
    from edgekit.pipeline import build_project

    sys.path.insert(0, str(args.project.resolve().parent))  # so that module:function may stand beside the project file
    try:
        made = build_project(
            project,
            args.output,
            resume=args.resume,
            architecture=args.architecture,
            device=args.device,
            allow_code=args.allow_code,
            progress=shown_progress(),
        )
    except KeyboardInterrupt:
        progress("stopped; the same command with --resume goes on after the last whole epoch")
        raise
    emit(args, summary.as_json(made), summary.text(made))
    return summary.exit_code(made)


def _run_language(args: argparse.Namespace) -> int:
    project = load_language_project(args.project)
    for flag, given in (("--resume", args.resume), ("--architecture", args.architecture)):
        if given:
            raise ConfigError(f"{flag} is not for a project with [language]: leave it out")
    lean_tensorflow()
    from edgekit.decoders.building import build_language_project

    made = build_language_project(
        project, args.output, device=args.device, allow_code=args.allow_code, progress=shown_progress()
    )
    emit(args, summary.as_json(made), summary.text(made))
    return summary.exit_code(made)
