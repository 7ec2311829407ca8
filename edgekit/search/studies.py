"""Optuna's part: one study for each rung in one SQLite file, asked and told so that a kill loses nothing.

What is asked next is a function of the seed, of the trial's number and of what was told before, so neither an
interruption nor the number of workers changes it: trials come in batches of BATCH, are told in the order of their
numbers when the whole batch is there, and each has a sampler of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: what Optuna's distributions are, and JSON

from edgekit.errors import ConfigError, EngineError, OutputError
from edgekit.search.figures import Figures
from edgekit.search.space import Params, Scale, Space
from edgekit.strict import parse

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

BATCH = 8
DATABASE = "study.db"
_IDENTITY, _FIGURES, _ERROR = "edgekit-identity", "figures", "error"
OBJECTIVES = 3  # metric drop, bytes, latency relative to the plain file
_SEED_STRIDE = 1_000_003  # so that no two trials of neighbouring seeds have one sampler


class Database:
    """The SQLite file of a search."""

    def __init__(self, path: Path, identity: str, *, resume: bool) -> None:
        """Open it, or begin anew without `resume`. Raises ConfigError when it is of another search, EngineError
        without Optuna, OutputError."""
        try:
            import optuna
        except ImportError as problem:
            raise EngineError('a search needs Optuna: pip install "edgekit[search]"') from problem
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if not resume:
            path.unlink(missing_ok=True)
        self.path, self._identity = path, identity
        try:
            self._storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
        except Exception as problem:  # SQLAlchemy's many, for a file that is none of Optuna's
            reason = str(problem).splitlines()[0]
            raise OutputError(f"cannot use {path} as a study: {reason}; remove it, or choose another -o") from problem

    def study(self, rung: str) -> Study:
        """The study of a rung. Raises ConfigError when its identity is another."""
        from optuna.study import StudyDirection, create_study

        directions = [StudyDirection.MINIMIZE] * OBJECTIVES
        study = create_study(study_name=rung, storage=self._storage, directions=directions, load_if_exists=True)
        known = study.user_attrs.get(_IDENTITY)
        if known is None:
            study.set_user_attr(_IDENTITY, self._identity)
        elif known != self._identity:
            raise ConfigError(
                f"{self.path} holds the study of another search (another model, data, space or settings): leave "
                "--resume out to begin anew, or choose another -o"
            )
        return study

    def close(self) -> None:
        """Let go of the file; a second close is harmless."""
        self._storage.remove_session()
        self._storage.engine.dispose()


class Rung:
    """One study: which trials it has, and what came of them."""

    def __init__(self, study: Study, space: Space, seed: int) -> None:
        self._study, self._seed = study, seed
        self._distributions = _distributions(space)

    def enqueue(self, queue: Sequence[Params]) -> None:
        """Try these first; what was enqueued before an interruption is not enqueued again."""
        for params in queue:
            self._study.enqueue_trial(dict(params), skip_if_exists=True)

    def batches(self, total: int) -> Iterator[dict[int, Params]]:
        """Trials by number, until `total` of them are told; the next batch is asked when this one was told."""
        while True:
            trials = self._study.get_trials(deepcopy=False)
            begun = [trial for trial in trials if trial.state.name != "WAITING"]
            open_ = next((trial.number for trial in begun if not trial.state.is_finished()), len(begun))
            if open_ >= total:
                return
            end = min(total, (open_ // BATCH + 1) * BATCH)
            for number in range(len(begun), end):
                self._ask(number)
            trials = self._study.get_trials(deepcopy=False)
            yield {trial.number: trial.params for trial in trials[open_:end] if not trial.state.is_finished()}

    def tell(self, number: int, values: Sequence[float] | None, attributes: Mapping[str, Any]) -> None:
        """The end of a trial; without values it failed."""
        from optuna.trial import TrialState

        trial_id = self._study.get_trials(deepcopy=False)[number]._trial_id
        for name, value in attributes.items():
            self._study._storage.set_trial_user_attr(trial_id, name, value)
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        self._study.tell(number, values, state=state)

    def told(self) -> int:
        """How many trials have come to their end."""
        return sum(trial.state.is_finished() for trial in self._study.get_trials(deepcopy=False))

    def figures(self) -> list[Figures]:
        """What succeeded, in the order of the numbers."""
        done = (trial for trial in self._study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE")
        return [parse(Figures, trial.user_attrs[_FIGURES], where=f"trial {trial.number}") for trial in done]

    def failures(self) -> dict[int, str]:
        """Why trials failed, by number."""
        trials = self._study.get_trials(deepcopy=False)
        return {trial.number: _reason(trial) for trial in trials if trial.state.name == "FAIL"}

    def _ask(self, number: int) -> None:
        from optuna.samplers import TPESampler

        self._study.sampler = TPESampler(seed=(self._seed * _SEED_STRIDE + number) % 2**32)
        asked = self._study.ask(self._distributions)
        if asked.number != number:
            raise OutputError(
                f"another search writes into the study '{self._study.study_name}' of this folder, too: let that "
                "one end, or choose another -o"
            )


def attributes(figures: Figures | None, error: str | None) -> dict[str, Any]:
    """What a trial is told with."""
    if figures is None:
        return {_ERROR: error}
    return {_FIGURES: vars(figures) | {"params": dict(figures.params)}}


def _reason(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(_ERROR))


def _distributions(space: Space) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: FloatDistribution(kind.low, kind.high, step=kind.step)
        if isinstance(kind, Scale)
        else CategoricalDistribution(kind)
        for name, kind in space.dimensions.items()
    }
