"""A model and one data file become a project: what somebody needs who has no project file yet."""

from __future__ import annotations

from pathlib import Path

from edgekit.budgets import Budget
from edgekit.compression import checks
from edgekit.data import load_data
from edgekit.errors import ConfigError
from edgekit.files import atomic, write_text
from edgekit.loading import load
from edgekit.planning import plan
from edgekit.search.subject import split, write_columns
from edgekit.toml_text import toml_text

PROJECT, TRAIN, EVALUATION = "project.toml", "train.npz", "evaluation.npz"
MARK = "# Written by `edgekit search MODEL`, which writes it anew each time: copy it before you change it.\n"
FALLBACK = "model"  # of a file whose name says nothing that a bundle may be called


def write_project(
    model: str | Path,
    data: str | Path,
    folder: Path,
    *,
    max_metric_drop: float,
    max_bytes: int | None = None,
    max_p90_ms: float | None = None,
    max_peak_rss_bytes: int | None = None,
    target: str = "local",
    architecture: str | None = None,
    allow_code: bool = False,
) -> Path:
    """Write `project.toml` into `folder`, and beside it the data in two: a fifth, spread evenly, is held back.

    The metric is top-1. Raises EdgekitError on a model, data or a budget that does not fit, and where files of these
    names are somebody else's.
    """
    checks.fraction("max_metric_drop", max_metric_drop, zero=True)
    budget = Budget(max_metric_drop, max_bytes, max_p90_ms)
    _check_own(folder)
    plan([target])  # an unknown target is said before the model is loaded
    path = Path(model)
    loaded = load(path, architecture=architecture, allow_code=allow_code)
    if loaded.classes is None:
        raise ConfigError(
            f"{path.name} gives no class scores, so there is no top-1: write a project file with a metric of your own"
        )
    samples = load_data(data, loaded.inputs, where="data", classes=loaded.classes)
    samples.need_labels()
    learning, held_back = split(samples)
    for name, rows in ((TRAIN, learning), (EVALUATION, held_back)):
        with atomic(folder / name) as temporary:
            write_columns(temporary, rows)
    stem = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in path.stem).lstrip("._-")
    content: dict[str, object] = {"name": stem or FALLBACK, "version": "1.0.0", "model": str(path.resolve())}
    if architecture is not None:
        content["architecture"] = architecture
    content["data"] = {"train": TRAIN, "evaluation": EVALUATION}
    content["targets"] = {target: {}}
    content["budget"] = {name: limit for name, limit in vars(budget).items() if limit is not None}
    if max_peak_rss_bytes is not None:
        content["search"] = {"max_peak_rss_bytes": max_peak_rss_bytes}
    write_text(folder / PROJECT, MARK + toml_text(content))
    return folder / PROJECT


def _check_own(folder: Path) -> None:
    """Raise ConfigError where another hand's files would be written over."""
    project = folder / PROJECT
    if project.exists() and project.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        return
    for name in (PROJECT, TRAIN, EVALUATION):
        if (folder / name).exists():
            raise ConfigError(f"{folder / name} is there already, and would be written over: choose another -o")
