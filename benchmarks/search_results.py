"""`edgekit search` on two data sets, against plain int8 and against 20 random recipes: the figures of docs/search.md.

python benchmarks/search_results.py digits
python benchmarks/search_results.py watch

Each takes about half an hour on 2 quiet cores, most of it for the random recipes: they are drawn evenly from the
search's own space, and each is trained in full, as finalists are. An interrupted run goes on where it was (`--work`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit import demo
from edgekit.cli.progress import LineProgress
from edgekit.files import write_text
from edgekit.project import load_project
from edgekit.search import Found, find_recipe
from edgekit.search.choosing import choose
from edgekit.search.figures import FULL, Figures, Limits, cost
from edgekit.search.latency import Candidate, Stopwatch
from edgekit.search.pools import LocalPool
from edgekit.search.results import HEAT_MAP, in_words
from edgekit.search.searching import FOLDER, figures_of
from edgekit.search.space import Params, Scale, Space, make_space
from edgekit.search.store import Store
from edgekit.search.subject import Subject, load_subject, write_columns
from edgekit.search.trials import Job, Outcome, job_key
from edgekit.strict import parse
from examples.study import Lesson, train
from examples.watch import load_watch, watch_cnn

ROOT = Path(__file__).parents[1]
RANDOM = 20
EPOCHS = {"digits": 6, "watch": 12}
PROJECT = """\
name = "{name}"
version = "1.0.0"
model = "{name}.keras"

[data]
train = "train.npz"
evaluation = "test.npz"

[targets.local]
precision = ["int8", "int8-float-io", "fp16", "dynamic-int8", "int4-weights"]

[budget]
max_metric_drop = 0.01

[search]
trials = {trials}
finalists = {finalists}
epochs = {epochs}
"""


def main() -> None:
    """Search, then draw at random, then time the best of both beside the plain file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(EPOCHS))
    parser.add_argument("--work", type=Path, default=Path("out/search-results"))
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--finalists", type=int, default=8)  # so that both sides are of one cost
    parser.add_argument("--random", type=int, default=RANDOM)
    args = parser.parse_args()
    folder = args.work / args.name
    project = prepare(args.name, folder, args.trials, args.finalists)
    found = find_recipe(project, folder / "out", resume=True, progress=LineProgress())
    subject = load_subject(load_project(project))
    space = make_space(subject.model.model, subject.precisions, subject.format, subject.project.search)
    drawn = _random(subject, space, folder / "out", found, args.random)
    summary = _summary(found, drawn, space, subject, _in_turns(subject, found, drawn, folder / "out"))
    figures = ROOT / "examples" / "figures"
    write_text(figures / f"search-{args.name}.json", json.dumps(summary, indent=1) + "\n")
    shutil.copyfile(folder / "out" / HEAT_MAP, ROOT / "docs" / f"search-{args.name}.png")
    print(json.dumps(summary, indent=1))


def prepare(name: str, folder: Path, trials: int, finalists: int) -> Path:
    """The trained model, its data and a project file, as a user would have them."""
    folder.mkdir(parents=True, exist_ok=True)
    project = folder / "project.toml"
    write_text(project, PROJECT.format(name=name, trials=trials, finalists=finalists, epochs=EPOCHS[name]))
    if (folder / f"{name}.keras").exists():
        return project
    if name == "digits":
        demo.prepare(folder / "demo", LineProgress())
        for file in ("digits.keras", "train.npz", "test.npz"):
            shutil.move(folder / "demo" / file, folder / file)
        return project
    learning, held_back = load_watch()
    write_columns(folder / "train.npz", learning)
    write_columns(folder / "test.npz", held_back)
    train(learning, watch_cnn, Lesson(8, 2e-3), 0).save(folder / "watch.keras")
    return project


def draw(space: Space, count: int, seed: int = 0) -> list[Params]:
    """Points of the space, every value of every dimension equally likely."""
    chance = np.random.default_rng(seed)
    values = {name: kind.values if isinstance(kind, Scale) else kind for name, kind in space.dimensions.items()}
    return [{name: known[chance.integers(len(known))] for name, known in values.items()} for _ in range(count)]


def _random(subject: Subject, space: Space, out: Path, found: Found, count: int) -> list[Figures]:
    """Random recipes, trained in full; those that the model does not take are told and left out."""
    store = Store(out / FOLDER / "results")
    stopwatch = Stopwatch("local:", store, memory=False, wait_s=0, progress=LineProgress())
    pool, figures = LocalPool(subject, out / FOLDER / "work", LineProgress()), []
    for number, params in enumerate(draw(space, count)):
        job = Job(space.recipe(params, subject.project.search.epochs), None)
        key = job_key(subject, job)
        if store.get(key) is None:
            for _, made in pool.run({key: job}):
                store.put(key, vars(made.outcome), made.files)
        outcome = parse(Outcome, store.get(key), where=key)
        if outcome.error is not None:
            print(f"random {number}: {outcome.error}", flush=True)
            continue
        candidate = _candidate(store, subject, key, job.recipe.precision)
        latency = stopwatch.measure(_plain(store, subject, found), {"random": candidate})["random"]
        made_figures, problem = figures_of("random", number, params, key, outcome, latency)
        print(f"random {number}: {in_words(job.recipe)}: {problem or made_figures}", flush=True)
        figures += [made_figures] if made_figures else []
    return figures


def _candidate(store: Store, subject: Subject, key: str, precision: str) -> Candidate:
    (bundle,) = store.files(key).glob("*.edgekit")
    return Candidate(bundle, subject.planned(precision).id)


def _plain(store: Store, subject: Subject, found: Found) -> Candidate:
    return _candidate(store, subject, found.plain.key, found.recipes[found.plain.id].precision)


def _in_turns(subject: Subject, found: Found, drawn: Sequence[Figures], out: Path) -> dict[str, dict[str, float]]:
    """The plain file, the chosen one and the best of the random ones, timed anew, in turns."""
    store = Store(out / FOLDER / "results")
    best = _best(drawn, found, subject)
    wanted = {"chosen": found.choice.chosen, "random": best}
    files = {
        name: _candidate(store, subject, trial.key, str(trial.params["precision"]))
        for name, trial in wanted.items()
        if trial is not None
    }
    with tempfile.TemporaryDirectory() as fresh:
        stopwatch = Stopwatch("local:", Store(Path(fresh)), memory=False, wait_s=0, progress=LineProgress())
        latencies = stopwatch.measure(_plain(store, subject, found), files)
    return {
        name: {"median_ms": it.median_ms or 0.0, "times_faster": 1 / (it.ratio or 1.0)}
        for name, it in latencies.items()
    }


def _best(drawn: Sequence[Figures], found: Found, subject: Subject) -> Figures | None:
    """What the search's own rule takes of the random recipes."""
    return choose(drawn, found.plain, _limits(subject), found.meaning).chosen if drawn else None


def _limits(subject: Subject) -> Limits:
    return Limits(subject.project.budget)


def _summary(
    found: Found, drawn: Sequence[Figures], space: Space, subject: Subject, turns: Mapping[str, Mapping[str, float]]
) -> dict[str, object]:
    def told(trial: Figures | None) -> dict[str, object] | None:
        if trial is None:
            return None
        recipe = space.recipe(trial.params, subject.project.search.epochs)
        return {
            "id": trial.id,
            "recipe": in_words(recipe),
            "metric": trial.metric,
            "points_lost": 100 * trial.metric_drop,
            "bytes": trial.bytes,
            "times_smaller": found.plain.bytes / trial.bytes,
            "times_faster": 1 / trial.latency_ratio,
            "cost": cost(trial, found.plain, found.meaning),
        }

    full = [trial for trial in found.trials if trial.rung == FULL]
    unique = {trial.key: trial.seconds for trial in found.trials}
    return {
        "name": found.name,
        "plain": told(found.plain),
        "chosen": told(found.choice.chosen),
        "best_random": told(_best(drawn, found, subject)),
        "timed_anew_in_turns": turns,
        "full": [told(trial) for trial in full],
        "random": [told(trial) for trial in drawn],
        "random_within_budget": sum(_limits(subject).met(trial) for trial in drawn),
        "seconds_of_search_trials": sum(unique.values()),
        "seconds_of_random_trials": sum(trial.seconds for trial in drawn),
    }


if __name__ == "__main__":
    main()
