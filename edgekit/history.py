"""What device tests and benchmarks measured over time: one SQLite file, which several processes may write at once.

    with History.open(history_file()) as history:
        for series in history.series(model="digits", metric="median_ms"):
            print(series.device, series.variant, [(point.version, point.value) for point in series.points])

A run is one `edgekit test` or `edgekit bench` on one device; its figures are kept by variant and metric, under the
names that the JSON report has. SQLite locks the file, and runs are kept in one transaction, all or none.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from edgekit.errors import ConfigError, OutputError
from edgekit.places import data_folder

SCHEMA_VERSION = 1
FILE = "EDGEKIT_HISTORY"
_WAIT_S = 60.0  # for another process's transaction
_MIGRATIONS: Sequence[str] = (  # the step to version 1, to version 2, …
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, device TEXT NOT NULL, model TEXT NOT NULL,
        version TEXT NOT NULL, bundle_sha256 TEXT NOT NULL, git_commit TEXT, outcome TEXT NOT NULL
    );
    CREATE INDEX runs_by_model ON runs (model, device, time);
    CREATE TABLE figures (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE, variant TEXT NOT NULL, metric TEXT NOT NULL,
        value REAL NOT NULL, PRIMARY KEY (run, variant, metric)
    ) WITHOUT ROWID;
    """,
)


@dataclass(frozen=True)
class Run:
    """One run on one device."""

    kind: str  # "test" or "bench"
    device: str  # its URL
    model: str
    version: str
    bundle_sha256: str
    commit: str | None
    outcome: str  # "passed", "failed", "inconclusive", "broken", "measured"
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # by variant, by metric
    time: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="milliseconds"))  # UTC


@dataclass(frozen=True)
class Point:
    """One figure of one run."""

    time: str  # ISO 8601 in UTC
    version: str  # of the bundle
    commit: str | None
    outcome: str
    value: float


@dataclass(frozen=True)
class Series:
    """One metric of one variant of one model on one device, the oldest point first."""

    model: str
    metric: str
    variant: str
    device: str
    points: tuple[Point, ...]


def history_file(chosen: Path | None = None) -> Path:
    """`chosen`, else `$EDGEKIT_HISTORY`, else history.sqlite in edgekit's data folder."""
    return chosen or Path(os.environ.get(FILE) or data_folder() / "history.sqlite")


def figures_of(values: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, float]]:
    """The numbers among a report's figures."""
    return {variant: dict(_numbers(named)) for variant, named in values.items()}


class History:
    """An open history. Close it, or use it as a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Use `History.open`."""
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> History:
        """Open the file, which is made when it is not there.

        Raises ConfigError when it is no history, or a newer edgekit's; OutputError when it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
        except (OSError, sqlite3.OperationalError) as problem:
            raise OutputError(f"cannot write {path}: {problem}; choose another file with --history") from problem
        history = cls(path, connection)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            history._migrate()
        except BaseException:
            connection.close()
            raise
        return history

    def __enter__(self) -> History:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def record(self, runs: Sequence[Run]) -> None:
        """Keep runs, all or none. Raises OutputError."""
        with self._writing() as connection:
            for run in runs:
                cursor = connection.execute(
                    "INSERT INTO runs (time, kind, device, model, version, bundle_sha256, git_commit, outcome) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        run.time,
                        run.kind,
                        run.device,
                        run.model,
                        run.version,
                        run.bundle_sha256,
                        run.commit,
                        run.outcome,
                    ),
                )
                rows = [
                    (cursor.lastrowid, variant, metric, value)
                    for variant, named in run.figures.items()
                    for metric, value in named.items()
                ]
                connection.executemany("INSERT INTO figures VALUES (?, ?, ?, ?)", rows)

    def runs(self, *, model: str | None = None, device: str | None = None, limit: int | None = None) -> tuple[Run, ...]:
        """The newest `limit` runs (default: all), the oldest of them first."""
        where, values = _where({"model": model, "device": device})
        columns = "id, kind, device, model, version, bundle_sha256, git_commit, outcome, time"
        rows = self._read(
            f"SELECT {columns} FROM runs {where} ORDER BY time DESC, id DESC LIMIT ?",
            (*values, -1 if limit is None else limit),
        )
        return tuple(
            Run(kind, url, name, version, sha256, commit, outcome, self._figures(number), time)
            for number, kind, url, name, version, sha256, commit, outcome, time in reversed(rows)
        )

    def series(
        self,
        *,
        model: str | None = None,
        metric: str | None = None,
        device: str | None = None,
        variant: str | None = None,
    ) -> tuple[Series, ...]:
        """Every series that fits, by model, metric, variant and device."""
        where, values = _where({"model": model, "metric": metric, "device": device, "variant": variant})
        rows = self._read(
            "SELECT model, metric, variant, device, time, version, git_commit, outcome, value FROM figures "
            f"JOIN runs ON runs.id = figures.run {where} ORDER BY model, metric, variant, device, time, id",
            values,
        )
        found: dict[tuple[str, str, str, str], list[Point]] = {}
        for row in rows:
            found.setdefault(row[:4], []).append(Point(*row[4:]))
        return tuple(Series(*key, tuple(points)) for key, points in found.items())

    def _figures(self, run: int) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for variant, metric, value in self._read("SELECT variant, metric, value FROM figures WHERE run = ?", (run,)):
            found.setdefault(variant, {})[metric] = value
        return found

    def _read(self, statement: str, values: Sequence[object] = ()) -> list[tuple]:  # type: ignore[type-arg]  # rows
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as problem:
            raise ConfigError(f"{self.path}: not a history that can be read ({problem})") from problem

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, which has the file from its beginning on."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as problem:
            raise OutputError(f"cannot write {self.path}: {problem}; choose another file with --history") from problem
        except sqlite3.DatabaseError as problem:
            raise ConfigError(f"{self.path}: not a history ({problem}): choose another with --history") from problem

    def _migrate(self) -> None:
        """To this version's tables; another process may do it at the same time."""
        if self._version() == SCHEMA_VERSION:
            return
        with self._writing() as connection:
            version = self._version()
            if version > SCHEMA_VERSION:
                raise ConfigError(
                    f"{self.path}: version {version} of the history, this edgekit knows {SCHEMA_VERSION}: "
                    "update edgekit, or choose another file with --history"
                )
            for step in _MIGRATIONS[version:]:
                for statement in filter(str.strip, step.split(";")):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _version(self) -> int:
        ((version,),) = self._read("PRAGMA user_version")
        return int(version)


def _where(wanted: Mapping[str, str | None]) -> tuple[str, tuple[str, ...]]:
    given = {name: value for name, value in wanted.items() if value is not None}
    clause = " AND ".join(f"{name} = ?" for name in given)
    return f"WHERE {clause}" if clause else "", tuple(given.values())


def _numbers(named: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    for name, value in named.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield name, float(value)
