"""`edgekit history [BUNDLE]`: what device tests and benchmarks measured over time."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgekit.cli.output import emit
from edgekit.cli.table import table
from edgekit.errors import ConfigError
from edgekit.history import History, Run, Series, history_file

_RUNS = 20  # that are shown
_COMMIT_SHOWN = 12
_SHOWN = ("median_ms", "p90_ms", "max_error", "metric_value", "gate_ratio")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit history`."""
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help="a bundle, or the name of a model (default: all)")
    parser.add_argument("--device", metavar="URL", help="of this device alone")
    parser.add_argument(
        "--metric", metavar="NAME", help="one figure over time: median_ms, peak_rss_bytes, gate_ratio, …"
    )
    parser.add_argument("--variant", metavar="ID", help="with --metric: of this variant alone")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="the newest runs (20), or with --metric points of each series (all)"
    )
    parser.add_argument("--history", type=Path, metavar="FILE", help="default: $EDGEKIT_HISTORY, else the user's")


def run(args: argparse.Namespace) -> int:
    """Print the runs, or the series of one metric."""
    path = history_file(args.history)
    if not path.exists():
        raise ConfigError(f"{path}: no history yet: edgekit test and edgekit bench write it")
    if args.variant is not None and args.metric is None:
        raise ConfigError("--variant is for --metric: edgekit history --metric median_ms --variant ID")
    if args.limit is not None and args.limit < 1:
        raise ConfigError(f"--limit is {args.limit}, expected 1 or more")
    model = _model(args.bundle)
    with History.open(path) as history:
        if args.metric is not None:
            every = history.series(model=model, metric=args.metric, device=args.device, variant=args.variant)
            found = every if args.limit is None else [_newest(item, args.limit) for item in every]
            emit(args, {"series": [dataclasses.asdict(item) for item in found]}, _series(found, args.metric))
        else:
            runs = history.runs(model=model, device=args.device, limit=_RUNS if args.limit is None else args.limit)
            emit(args, {"runs": [dataclasses.asdict(item) for item in runs]}, _runs(runs))
    return 0


def _model(bundle: str | None) -> str | None:
    if bundle is None or not Path(bundle).exists():
        return bundle
    from edgekit.bundle import Bundle

    with Bundle.open(bundle) as opened:
        return opened.manifest.name


def _runs(runs: tuple[Run, ...]) -> str:
    if not runs:
        return "no run"
    rows: list[tuple[str, ...]] = [("time", "verb", "device", "bundle", "commit", "outcome", "variant", *_SHOWN)]
    for item in runs:
        head = (item.time, item.kind, item.device, f"{item.model} {item.version}", _commit(item.commit), item.outcome)
        figures = sorted(item.figures.items()) or [("–", {})]
        rows += [(*head, variant, *(_number(named.get(name)) for name in _SHOWN)) for variant, named in figures]
    return table(rows)


def _newest(series: Series, count: int) -> Series:
    return dataclasses.replace(series, points=series.points[-count:])


def _series(found: Sequence[Series], metric: str) -> str:
    if not found:
        return f"no run has '{metric}'"
    rows = [("model", "device", "variant", "time", "version", "commit", "outcome", metric)]
    for item in found:
        head = (item.model, item.device, item.variant)
        rows += [(*head, it.time, it.version, _commit(it.commit), it.outcome, _number(it.value)) for it in item.points]
    return table(rows)


def _commit(commit: str | None) -> str:
    return "–" if commit is None else commit[:_COMMIT_SHOWN]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"
