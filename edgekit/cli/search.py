"""`edgekit search PROJECT.toml`, or `edgekit search MODEL --data D --max-drop …`: the recipe under the budgets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli.output import add_allow_code, add_architecture, emit, progress, quiet_tensorflow
from edgekit.cli.progress import shown_progress
from edgekit.cli.table import table
from edgekit.errors import ConfigError

if TYPE_CHECKING:
    from edgekit.search import Found
    from edgekit.search.figures import Figures

PROJECT_SUFFIX = ".toml"
# of a model without a project file
_ALONE = ("data", "max_drop", "max_bytes", "max_p90_ms", "max_peak_rss_bytes", "target", "architecture")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit search`."""
    parser.add_argument("subject", type=Path, metavar="PROJECT.toml|MODEL", help="a project file, or a Keras model")
    parser.add_argument("-o", "--output", type=Path, default=Path("out"), metavar="DIR", help="default: out")
    parser.add_argument(
        "--device", metavar="URL", help="where latency is measured (default: that of [search], else the project's)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the proposals (default: [search] seed, 0)")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted search stopped")
    parser.add_argument("--workers", default="local", metavar="WHO", help="who runs trials: local (default) or ray")
    parser.add_argument("--address", metavar="HOST:PORT", help="of a running Ray cluster (default: a Ray of its own)")
    parser.add_argument(
        "--wait-s", type=float, default=300.0, metavar="S", help="how long a device that is away is waited for"
    )
    without = parser.add_argument_group("without a project file")
    without.add_argument("--data", metavar="D.npz", help="labelled samples, of which a fifth is held back")
    without.add_argument("--max-drop", type=float, metavar="F", help="of the metric: 0.01 is one point")
    without.add_argument("--max-bytes", type=int, metavar="N", help="of the file")
    without.add_argument("--max-p90-ms", type=float, metavar="MS", help="of one sample on the device")
    without.add_argument("--max-peak-rss-bytes", type=int, metavar="N", help="of the process that runs the file there")
    without.add_argument("--target", metavar="NAME", help="a device profile (default: local)")
    add_architecture(parser)
    add_allow_code(parser)


def run(args: argparse.Namespace) -> int:
    """Search; 1 when no recipe meets the budgets."""
    _check(args)
    quiet_tensorflow()
    from edgekit.search import find_recipe
    from edgekit.search.results import as_dict

    try:
        found = find_recipe(
            _project(args), args.output,
            device=args.device, seed=args.seed, workers=args.workers, address=args.address, resume=args.resume,
            allow_code=args.allow_code, wait_s=args.wait_s, progress=shown_progress(),
        )  # fmt: skip
    except KeyboardInterrupt:
        progress("stopped; the same command with --resume goes on, and measures nothing twice")
        raise
    emit(args, as_dict(found), text(found, args.output))
    return 0 if found.met else 1


def _check(args: argparse.Namespace) -> None:
    if args.subject.suffix == PROJECT_SUFFIX:
        given = [name for name in _ALONE if getattr(args, name) is not None]
        if given:
            flag = f"--{given[0].replace('_', '-')}"
            raise ConfigError(f"{flag} is for a model without a project file: {args.subject.name} says it itself")
        return
    if args.data is None:
        raise ConfigError(f"{args.subject.name} is no project file (.toml), so the search needs --data")
    if args.max_drop is None:
        raise ConfigError("say how much of the metric may be lost: --max-drop 0.01 is one point")


def _project(args: argparse.Namespace) -> Path:
    """The project file, which is written first where none was given."""
    if args.subject.suffix == PROJECT_SUFFIX:
        subject: Path = args.subject
        return subject
    from edgekit.search.newcomer import write_project

    return write_project(
        args.subject, args.data, args.output,
        max_metric_drop=args.max_drop, max_bytes=args.max_bytes, max_p90_ms=args.max_p90_ms,
        max_peak_rss_bytes=args.max_peak_rss_bytes,
        target=args.target or "local", architecture=args.architecture, allow_code=args.allow_code,
    )  # fmt: skip


def text(found: Found, output: Path) -> str:
    """The front, the choice, and where the files are."""
    from edgekit.search.results import HEAT_MAP, SUMMARY, in_words

    choice = found.choice
    shown = dict.fromkeys([found.plain.id, *(trial.id for trial in (*choice.front, *choice.nearest))])
    by_id = {trial.id: trial for trial in found.trials}
    heading = ("recipe", found.metric_name, "drop", "bytes", "× smaller", "median ms", "p90 ms", "× faster")
    lines = [
        table([heading, *(_row(found, by_id[name]) for name in shown)]),
        "",
        *(f"{name}: {in_words(found.recipes[name])}" for name in shown),
        "",
        f"{found.plain.id} is the plain file. {len(found.trials)} trials, {len(found.failures)} came to nothing; "
        f"latency on {found.device}, in turns with the plain file.",
        f"{choice.why}.",
    ]
    if choice.chosen is None:
        lines.append(f"binding: {', '.join(choice.binding)}")
    else:
        lines.append(f"chosen: {found.project}   bundle: {found.bundle}")
        lines.append(f"the same again: edgekit build {found.project}")
    lines.append(f"all trials: {output / SUMMARY}")
    if (output / HEAT_MAP).exists():
        lines.append(f"sensitivity of each layer: {output / HEAT_MAP}")
    return "\n".join(lines)


def _row(found: Found, trial: Figures) -> tuple[str, ...]:
    chosen = found.choice.chosen
    size = trial.size(found.meaning)
    return (
        f"{trial.id}{' *' if chosen is not None and trial.id == chosen.id else ''}",
        f"{100 * trial.metric:.1f} %",
        f"{100 * trial.metric_drop:+.1f}",
        f"{size:,}",
        f"{found.plain.size(found.meaning) / size:.2f}",
        f"{trial.median_ms:.4f}",
        f"{trial.p90_ms:.4f}",
        f"{1 / trial.latency_ratio:.2f}",
    )
