"""What a search leaves: `search.json`, `sensitivity.json`, and the same in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.compression.steps import Factorize, Prune, PruneChannels, Step
from edgekit.files import write_text
from edgekit.search.choosing import Choice
from edgekit.search.figures import Figures, Limits
from edgekit.search.project_files import step_settings
from edgekit.search.sensitivity import Sensitivity
from edgekit.search.space import Recipe
from edgekit.search.subject import device_of

if TYPE_CHECKING:
    from edgekit.search.searching import Search

FORMAT = "edgekit-search"
FORMAT_VERSION = 1
SUMMARY, TABLE, HEAT_MAP = "search.json", "sensitivity.json", "sensitivity.png"


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    name: str
    target: str
    device: str
    seed: int
    metric_name: str
    meaning: str  # what "small" means: "file" or "packed"
    limits: Limits
    choice: Choice
    plain: Figures  # the model as it came at the first precision, on the rung of the choice
    trials: tuple[Figures, ...]  # of all rungs
    recipes: Mapping[str, Recipe]  # by the id of a trial
    failures: Mapping[str, str]  # id of a trial -> why it came to nothing
    project: Path | None = None  # the chosen recipe as a project file; None when none was chosen
    bundle: Path | None = None

    @property
    def met(self) -> bool:
        """Whether there is a recipe within the budgets."""
        return self.choice.chosen is not None


def found(search: Search, choice: Choice, plain: Figures) -> Found:
    """Everything that the studies know."""
    project, rungs = search.subject.project, search.rungs()
    trials = tuple(figures for rung in rungs.values() for figures in rung.figures())
    failures = {f"{name}-{n}": why for name, rung in rungs.items() for n, why in rung.failures().items()}
    return Found(
        name=project.name,
        target=search.subject.target,
        device=device_of(project),
        seed=project.search.seed,
        metric_name=project.data.metric,
        meaning=project.search.bytes,
        limits=search.limits,
        choice=choice,
        plain=plain,
        trials=trials,
        recipes={trial.id: search.job(trial.rung, trial.params).recipe for trial in trials},
        failures=failures,
    )


def write_table(table: Sensitivity, folder: Path) -> None:
    """Write `sensitivity.json`. Raises OutputError."""
    write_text(folder / TABLE, json.dumps(asdict(table), indent=1, allow_nan=False) + "\n")


def as_dict(result: Found) -> dict[str, object]:
    """What `search.json` holds; docs/search.md describes it."""
    choice = result.choice
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": result.name,
        "target": result.target,
        "device": result.device,
        "seed": result.seed,
        "metric_name": result.metric_name,
        "bytes": result.meaning,
        "budget": {**vars(result.limits.budget), "max_peak_rss_bytes": result.limits.max_peak_rss_bytes},
        "met": result.met,
        "chosen": choice.chosen and choice.chosen.id,
        "why": choice.why,
        "binding": list(choice.binding),
        "nearest": [trial.id for trial in choice.nearest],
        "front": [trial.id for trial in choice.front],
        "plain": result.plain.id,
        "trials": [_trial(result, trial) for trial in result.trials],
        "failures": dict(result.failures),
        "files": {
            "project": result.project and str(result.project),
            "bundle": result.bundle and str(result.bundle),
            "sensitivity": TABLE,
            "heat_map": HEAT_MAP,
        },
    }


def to_json(result: Found) -> str:
    """The text of `search.json`."""
    return json.dumps(as_dict(result), indent=1, allow_nan=False) + "\n"


def in_words(recipe: Recipe) -> str:
    """`int8, channels -50 % (conv0 -25 %), conv1 int4-weights`."""
    words = [recipe.precision, *map(_step, recipe.steps)]
    words += [f"{layer} {precision}" for layer, precision in recipe.kept.items()]
    return ", ".join(words)


def _trial(result: Found, trial: Figures) -> dict[str, object]:
    recipe = result.recipes[trial.id]
    limits = result.limits.items(trial)
    return {
        "id": trial.id,
        **asdict(trial),
        "recipe": {
            "compress": [step_settings(step) for step in recipe.steps],
            "precision": recipe.precision,
            "layers": dict(recipe.kept),
        },
        "missed": [item.name for item in limits if not item.met],
    }


_SETTINGS: Mapping[type[Step], tuple[str, str]] = {
    PruneChannels: ("channels", "ratio"),
    Factorize: ("energy", "energy"),
    Prune: ("zeros", "sparsity"),
}


def _step(step: Step) -> str:
    name, setting = _SETTINGS[type(step)]
    value = getattr(step, setting)
    sign = "-" if isinstance(step, PruneChannels) else ""
    layers: Mapping[str, object] = getattr(step, "layers", {})
    own = [
        f"{layer} whole" if not isinstance(item, Mapping) else f"{layer} {sign}{item[setting]:.4g}"
        for layer, item in layers.items()
    ]
    return f"{name} {sign}{value:.4g}" + (f" ({', '.join(own)})" if own else "")
