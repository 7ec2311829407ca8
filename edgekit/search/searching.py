"""The search on one page: sensitivities, untrained trials, short trainings, finals, and what the budgets leave."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edgekit.devices.opening import open_device
from edgekit.errors import ConfigError, ConversionError, did_you_mean
from edgekit.files import atomic, fresh_folder, remove_folder, write_text
from edgekit.progress import LoggedProgress, Progress
from edgekit.project import Project, load_project
from edgekit.search import results
from edgekit.search.choosing import Choice, choose
from edgekit.search.figures import FULL, REST, SHORT, Figures, Limits
from edgekit.search.heat_map import write_heat_map
from edgekit.search.latency import Candidate, Latency, Stopwatch
from edgekit.search.pools import LocalPool, Pool
from edgekit.search.project_files import write_found
from edgekit.search.promotion import for_finals, for_training, rounds, survivors
from edgekit.search.results import Found as Found
from edgekit.search.seeds import seeds
from edgekit.search.sensitivity import measure_sensitivity
from edgekit.search.space import Params, Space, make_space
from edgekit.search.store import Store, key_of
from edgekit.search.studies import DATABASE, Database, Rung, attributes
from edgekit.search.subject import SHORT_ROWS, Subject, check_project, device_of, load_subject
from edgekit.search.trials import Job, Outcome, job_key
from edgekit.strict import parse

FOLDER = "search"  # in the output folder: the study, measurements by content, checkpoints of builds
SHORT_EPOCHS = 1
WAIT_S = 300.0
LOCAL, RAY = WORKERS = ("local", "ray")


def find_recipe(
    project: str | Path,
    output: str | Path,
    *,
    device: str | None = None,
    seed: int | None = None,
    workers: str = LOCAL,
    address: str | None = None,
    resume: bool = False,
    allow_code: bool = False,
    wait_s: float = WAIT_S,
    progress: Progress | None = None,
) -> Found:
    """Search for the recipe of a project file under its budgets.

    `NAME-found.toml` beside the project file is the chosen recipe as a project file of its own; `output` gets its
    bundle, `search.json`, `sensitivity.json`, `sensitivity.png` and a folder `search` with the study. `device` and
    `seed` go before what `[search]` says. `workers` is "local" (this process) or "ray": a Ray of this machine, or the
    one at `address`. A device that goes away is waited for, `wait_s` seconds; whatever ends the search, `resume` goes
    on where it was. Budgets that no recipe meets are no exception: `Found.choice` says what is nearest. Raises
    EdgekitError.
    """
    source, folder = Path(project), Path(output)
    _check_workers(workers, address)
    shown, asked = progress or LoggedProgress(), _with_settings(load_project(source), device, seed)
    check_project(asked)
    open_device(device_of(asked)).close()  # a device that is not there is said before the work
    subject = load_subject(asked, allow_code=allow_code)
    space = make_space(subject.model.model, subject.precisions, subject.format, asked.search)
    store = Store(folder / FOLDER / "results")
    database = Database(folder / FOLDER / DATABASE, _identity(subject, space), resume=resume)
    with ExitStack() as stack:
        stack.callback(database.close)
        database.study(REST)  # a study of another search is said before the work
        work = fresh_folder(folder / FOLDER / "work", keep=True)
        pool = stack.enter_context(_pool(workers, address, subject, work, shown))  # so is a cluster that is not there
        first = _first_trials(subject, space, store, folder, shown)
        limits = Limits(asked.budget, asked.search.max_peak_rss_bytes)
        stopwatch = Stopwatch(device_of(asked), store, memory=limits.needs_memory, wait_s=wait_s, progress=shown)
        search = Search(subject, space, limits, store, stopwatch, pool, database, work, shown)
        found = results.found(search, *search.run(first))
    return _publish(found, search, source, folder)


@dataclass(frozen=True)
class Search:
    """What the rungs share."""

    subject: Subject
    space: Space
    limits: Limits
    store: Store
    stopwatch: Stopwatch
    pool: Pool
    database: Database
    work: Path
    progress: Progress

    def run(self, first: Sequence[Params]) -> tuple[Choice, Figures]:
        """(the choice, the plain file's figures on the same rung)."""
        settings, meaning = self.subject.project.search, self.subject.project.search.bytes
        rest = self._rung(REST, first, settings.trials)
        others = [item for item in rest if item.key != rest[0].key]  # the plain file has nothing to train
        few = survivors(settings.trials, settings.finalists)
        promoted = for_training(others, few, self.limits, meaning)
        if not promoted and not self.limits.met(rest[0]):  # by what training does not change
            return choose(rest, rest[0], self.limits, meaning), rest[0]
        short = self._rung(SHORT, [item.params for item in promoted], len(promoted))
        full = self._finals(short, rest[0])
        return choose(full, full[0], self.limits, meaning), full[0]

    def _finals(self, short: Sequence[Figures], plain: Figures) -> list[Figures]:
        """The plain file, and round after round of those that the rounds before make most promising."""
        settings, full = self.subject.project.search, list[Figures]()
        finalists: list[Figures] = []
        for count in rounds(settings.finalists):
            trained = [(one, next((item for item in full if item.params == one.params), None)) for one in finalists]
            further = for_finals(short, trained, count, self.limits, plain, settings.bytes)
            if full and not further:
                break
            finalists += further
            queue = [self.space.neutral(), *(item.params for item in finalists)]
            full = self._rung(FULL, queue, len(queue))
        return full

    def rungs(self) -> dict[str, Rung]:
        """The studies by name."""
        seed = self.subject.project.search.seed
        return {name: Rung(self.database.study(name), self.space, seed) for name in (REST, SHORT, FULL)}

    def job(self, rung: str, params: Params) -> Job:
        """What a trial is to do."""
        epochs = {REST: 0, SHORT: SHORT_EPOCHS, FULL: self.subject.project.search.epochs}[rung]
        rows = {REST: 0, SHORT: min(SHORT_ROWS, len(self.subject.learning)), FULL: None}[rung]
        return Job(self.space.recipe(params, epochs), rows)

    def _rung(self, name: str, queue: Sequence[Params], total: int) -> list[Figures]:
        """Every trial of a rung, told; the first is the plain file. Raises ConversionError when that cannot be made."""
        rung = self.rungs()[name]
        rung.enqueue(queue)
        with self.progress.task(f"{name} recipes", total - rung.told()) as advance:
            for batch in rung.batches(total):
                for number, (figures, error) in self._batch(name, batch).items():
                    values = None if figures is None else figures.objectives(self.subject.project.search.bytes)
                    rung.tell(number, values, attributes(figures, error))
                    advance(1, f"{name}-{number}")
        found, failed = rung.figures(), rung.failures()
        if name != SHORT and 0 in failed:
            raise ConversionError(f"the plain file, to which all else is compared, could not be made: {failed[0]}")
        return found

    def _batch(self, rung: str, batch: dict[int, Params]) -> dict[int, tuple[Figures | None, str | None]]:
        jobs = {number: self.job(rung, params) for number, params in batch.items()}
        keys = {number: job_key(self.subject, job) for number, job in jobs.items()}
        missing = {keys[number]: job for number, job in jobs.items() if self.store.get(keys[number]) is None}
        for key, made in self.pool.run(missing):
            self.store.put(key, asdict(made.outcome), made.files)
            remove_folder(self.work / key)
        outcomes = {number: self.outcome(key) for number, key in keys.items()}
        files = {
            f"{rung}-{number}": self.candidate(keys[number], jobs[number])
            for number, outcome in outcomes.items()
            if outcome.error is None
        }
        latencies = self.stopwatch.measure(self._plain(), files) if files else {}
        return {
            number: figures_of(rung, number, params, keys[number], outcomes[number], latencies.get(f"{rung}-{number}"))
            for number, params in batch.items()
        }

    def outcome(self, key: str) -> Outcome:
        """What the store has of a build."""
        return parse(Outcome, self.store.get(key), where=f"result {key}")

    def candidate(self, key: str, job: Job) -> Candidate:
        """The file of a build, in its bundle."""
        (bundle,) = self.store.files(key).glob("*.edgekit")
        return Candidate(bundle, self.subject.planned(job.recipe.precision).id)

    def _plain(self) -> Candidate:
        job = self.job(REST, self.space.neutral())
        key = job_key(self.subject, job)
        outcome = self.outcome(key)
        if outcome.error is not None:
            raise ConversionError(f"the plain file, to which all else is compared, could not be made: {outcome.error}")
        return self.candidate(key, job)


def figures_of(
    rung: str, number: int, params: Params, key: str, outcome: Outcome, latency: Latency | None
) -> tuple[Figures | None, str | None]:
    """The figures of a trial, or why there are none."""
    if latency is None or latency.ratio is None:
        return None, outcome.error or ("it was not timed" if latency is None else latency.problem)
    assert outcome.metric is not None
    assert outcome.float_metric is not None
    assert latency.median_ms is not None
    assert latency.p90_ms is not None
    assert latency.p99_ms is not None  # all come together
    drop = outcome.float_metric - outcome.metric
    figures = Figures(
        rung, number, params, key, outcome.metric, drop, outcome.bytes, outcome.packed_bytes, outcome.parameters,
        latency.median_ms, latency.p90_ms, latency.p99_ms, latency.ratio, latency.peak_rss_bytes, outcome.seconds,
    )  # fmt: skip
    return figures, None


def _check_workers(workers: str, address: str | None) -> None:
    if workers not in WORKERS:
        raise ConfigError(f"workers is '{workers}'{did_you_mean(workers, WORKERS)}")
    if address is not None and workers != RAY:
        raise ConfigError(
            f'address is {address}, which is that of a Ray cluster: set workers = "{RAY}" (--workers ray)'
        )


def _first_trials(subject: Subject, space: Space, store: Store, folder: Path, progress: Progress) -> list[Params]:
    """What the sensitivity table, which is written with its picture, says to try first."""
    table = measure_sensitivity(subject, space, store, progress)
    results.write_table(table, folder)
    picture = folder / results.HEAT_MAP
    picture.unlink(missing_ok=True)  # that of an earlier search
    if table.cells:
        write_heat_map(table, picture)
    return seeds(space, table, subject.project.search.trials)


def _with_settings(project: Project, device: str | None, seed: int | None) -> Project:
    own = project.search
    asked = replace(own, device=own.device if device is None else device, seed=own.seed if seed is None else seed)
    return replace(project, search=asked)


def _identity(subject: Subject, space: Space) -> str:
    """What must be equal for a study to go on: the same work, in the same space."""
    project = subject.project
    settings = asdict(replace(project.search, target=subject.target, device=device_of(project)))
    return key_of(subject.identity, settings, repr(space), repr(project.budget))


def _pool(workers: str, address: str | None, subject: Subject, work: Path, progress: Progress) -> Pool:
    if workers == LOCAL:
        return LocalPool(subject, work, progress)
    from edgekit.search.on_ray import RayPool

    return RayPool(subject, address)


def _publish(found: Found, search: Search, source: Path, folder: Path) -> Found:
    """Write the chosen recipe as a project file, what its build made, and search.json, which is last."""
    chosen = found.choice.chosen
    if chosen is not None:
        path = source.with_name(f"{source.stem}-found.toml")
        write_found(source, path, search.subject.target, search.job(FULL, chosen.params).recipe)
        made = {}
        for file in sorted(search.store.files(chosen.key).iterdir()):
            with atomic(folder / file.name) as temporary:
                shutil.copyfile(file, temporary)
            made[file.suffix] = folder / file.name
        found = replace(found, project=path, bundle=made[".edgekit"])
    write_text(folder / results.SUMMARY, results.to_json(found))
    return found
