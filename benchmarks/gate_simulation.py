"""How often the regression gate is wrong, by simulation: false alarms, slowdowns caught, and what it leaves open.

    python benchmarks/gate_simulation.py [--sessions N] [--workers N] [-o docs]

Each session is one verdict of edgekit's own code on made-up times of processes: an offset for each process (placement,
clock), heat that drifts over the session, a heavy tail of single runs; in some worlds processes of two speeds, or a
neighbour that comes and goes. Gates that are often seen elsewhere judge sessions of the same worlds, one bundle
measured after the other. Everything is drawn from fixed seeds: the same numbers come out anywhere. Writes
gate-simulation.json and gate-simulation.png; with 1,000 sessions it takes some ten minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from edgekit.gate import INCONCLUSIVE, GateSettings, estimate, judge
from edgekit.gate.statistics import floor_of

SLOWDOWNS = (0.0, 0.02, 0.05, 0.08, 0.10, 0.15, 0.20)
RUNS = 50  # in each process
CALIBRATION_PAIRS = 20


@dataclass(frozen=True)
class World:
    """Where times come from. Fractions of the time of one run."""

    name: str
    process: float  # standard deviation between processes
    drift: float = 0.06  # heat: up to this over a session
    second_mode: float = 0.0  # processes of a second speed: this much slower
    second_share: float = 0.0
    burst: float = 0.0  # a neighbour that comes and goes: this much slower meanwhile


WORLDS = (
    World("quiet board", process=0.01, drift=0.02),
    World("phone", process=0.03),
    World("two speeds", process=0.03, second_mode=0.08, second_share=0.3),
    World("busy machine", process=0.04, burst=0.3),
)


def process_times(world: World, order: np.ndarray, slowdown: float, draw: np.random.Generator) -> np.ndarray:
    """Times in ms of shape (processes, RUNS); `order` is 1 where a process runs the candidate."""
    count = len(order)
    base = 10 * (1 + world.drift * draw.uniform() * np.linspace(0, 1, count))
    base *= np.exp(world.process * draw.standard_normal(count)) * (1 + slowdown * order)
    base *= 1 + world.second_mode * (draw.random(count) < world.second_share)
    base *= 1 + world.burst * _neighbour(count, draw)
    runs = base[:, None] * (1 + 0.02 * np.abs(draw.standard_normal((count, RUNS))))
    return runs * np.where(draw.random((count, RUNS)) < 0.05, draw.uniform(1.1, 2, (count, RUNS)), 1)


def _neighbour(count: int, draw: np.random.Generator) -> np.ndarray:
    here, there = np.zeros(count), False
    for index in range(count):
        there = draw.random() < (0.7 if there else 0.08)
        here[index] = there
    return here


def pairs_of(world: World, pairs: int, slowdown: float, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Interleaved: baseline and candidate runs, each of shape (pairs, RUNS), in random order inside each pair."""
    order = np.concatenate([draw.permutation([0, 1]) for _ in range(pairs)])
    times = process_times(world, order, slowdown, draw)
    return times[order == 0], times[order == 1]


def gate_session(baseline: np.ndarray, candidate: np.ndarray, settings: GateSettings) -> tuple[str, int]:
    """A verdict as edgekit reaches it, and after how many pairs."""
    first, second = np.median(baseline, axis=1), np.median(candidate, axis=1)
    for pairs in range(settings.pairs, settings.most_pairs + 1, settings.pairs):
        verdict = judge(estimate(first[:pairs], second[:pairs], settings), settings)
        if verdict != INCONCLUSIVE:
            break
    return verdict, pairs


def _means(baseline: np.ndarray, candidate: np.ndarray) -> bool:
    return bool(candidate.mean() > 1.05 * baseline.mean())


def _rank_sum(baseline: np.ndarray, candidate: np.ndarray) -> bool:
    """Mann-Whitney's U on all runs, one-sided, p < 0.05."""
    ranks = np.argsort(np.argsort(np.concatenate([candidate.ravel(), baseline.ravel()])))
    n, m = candidate.size, baseline.size
    u = ranks[:n].sum() - n * (n - 1) / 2
    return bool((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12) > NormalDist().inv_cdf(0.95))


OTHERS: dict[str, Callable[[np.ndarray, np.ndarray], bool]] = {
    "means of all runs, +5 %": _means,
    "Mann-Whitney on all runs": _rank_sum,
}


def cell(task: tuple[World, float, int]) -> dict[str, Any]:
    """One world at one slowdown."""
    world, slowdown, sessions = task
    draw = np.random.default_rng([WORLDS.index(world), SLOWDOWNS.index(slowdown)])
    settings = GateSettings()
    verdicts: dict[str, int] = {"pass": 0, "fail": 0, "inconclusive": 0}
    alarms = dict.fromkeys(OTHERS, 0)
    used, floors = [], []
    for _ in range(sessions):
        same = pairs_of(world, CALIBRATION_PAIRS, 0.0, draw)
        floor = floor_of(*(np.median(side, axis=1) for side in same), settings)
        baseline, candidate = pairs_of(world, settings.most_pairs, slowdown, draw)
        verdict, pairs = gate_session(baseline, candidate, GateSettings(floor=floor))
        verdicts[verdict] += 1
        used.append(pairs)
        floors.append(floor)
        one_after_the_other = _blocks(world, settings.pairs, slowdown, draw)
        for name, gate in OTHERS.items():
            alarms[name] += gate(*one_after_the_other)
    return {
        "world": world.name,
        "slowdown": slowdown,
        "sessions": sessions,
        **{name: count / sessions for name, count in verdicts.items()},
        "mean_pairs": float(np.mean(used)),
        "median_floor": float(np.median(floors)),
        "others": {name: count / sessions for name, count in alarms.items()},
    }


def _blocks(world: World, pairs: int, slowdown: float, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """All of the baseline, then all of the candidate."""
    order = np.repeat([0, 1], pairs)
    times = process_times(world, order, slowdown, draw)
    return times[:pairs], times[pairs:]


def plot(cells: list[dict[str, Any]], path: Path) -> None:
    """What share of sessions fails, by true slowdown; one panel for each world."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(WORLDS), figsize=(3.2 * len(WORLDS), 3.2), sharey=True, layout="constrained")
    for panel, world in zip(panels, WORLDS, strict=True):
        rows = [row for row in cells if row["world"] == world.name]
        x = [100 * row["slowdown"] for row in rows]
        panel.stackplot(
            x, [[100 * row[word] for row in rows] for word in ("fail", "inconclusive", "pass")],
            labels=("edgekit: fail", "edgekit: inconclusive", "edgekit: pass"),
            colors=("#c0392b", "#d5d8dc", "#d4efdf"),
        )  # fmt: skip
        for name, marker in zip(OTHERS, ("o", "s"), strict=True):
            panel.plot(
                x, [100 * row["others"][name] for row in rows], f"k{marker}--", ms=3, lw=0.8, label=f"{name}: fail"
            )
        panel.set(title=world.name, xlabel="true slowdown, %", xlim=(0, 20), ylim=(0, 100))
    panels[0].set_ylabel("share of sessions, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(path, dpi=110)


def markdown(cells: Iterable[dict[str, Any]]) -> str:
    """The table of docs/latency-gate.md."""
    lines = [
        "| device | true slowdown | fail | inconclusive | pass | pairs, mean | " + " | ".join(OTHERS) + " |",
        "|---|---|---|---|---|---|" + "---|" * len(OTHERS),
    ]
    for row in cells:
        shares = [f"{100 * row[word]:.1f} %" for word in ("fail", "inconclusive", "pass")]
        others = [f"{100 * share:.0f} %" for share in row["others"].values()]
        words = [row["world"], f"{100 * row['slowdown']:.0f} %", *shares, f"{row['mean_pairs']:.0f}", *others]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def main() -> None:
    """Simulate, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs"))
    args = parser.parse_args()
    tasks = [(world, slowdown, args.sessions) for world in WORLDS for slowdown in SLOWDOWNS]
    with ProcessPoolExecutor(args.workers) as pool:
        cells = list(pool.map(cell, tasks))
    written = {"settings": asdict(GateSettings()), "worlds": [asdict(world) for world in WORLDS], "cells": cells}
    (args.output / "gate-simulation.json").write_text(json.dumps(written, indent=1) + "\n")
    plot(cells, args.output / "gate-simulation.png")
    print(markdown(cells))


if __name__ == "__main__":
    main()
