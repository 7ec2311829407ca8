"""What `edgekit compare --fix` says of its search."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from edgekit.toml_text import toml_value
from edgekit.wording import counted

if TYPE_CHECKING:
    from edgekit.fixing import Cost, Fix
    from edgekit.goals import Goal
    from edgekit.runtime.timing import Timing
    from edgekit.widening import Attempt

_PRECISION_WORDS = {"fp32": "in float32", "int16x8": "with int16 activations (int16x8)"}


def fix_json(found: Fix, output: str, settings: dict[str, object]) -> dict[str, object]:
    """The search as one JSON object; `settings` are those of `[convert.FORMAT]`."""
    goal, best, cost = found.goal, found.best, found.cost
    return {
        "goal": goal.name,
        "least": goal.least,
        "rows": found.rows,
        "float_value": goal.float_value,
        "value": _finite(found.value),
        "met": found.met,
        "needed": best is not None,
        "precision": found.precision,
        "best": best and _attempt_json(best),
        "other": found.other and _attempt_json(found.other),
        "weight_share": found.weight_share,
        "settings": settings,
        "output": output if cost else None,
        "cost": cost and dataclasses.asdict(cost),
        "attempts": [_attempt_json(attempt) for attempt in found.attempts],
        "notes": list(found.notes),
    }


def fix_lines(found: Fix, output: str, settings: dict[str, object]) -> list[str]:
    """The same in words."""
    goal, best = found.goal, found.best
    in_float = "" if goal.float_value is None else f"{figure(goal, goal.float_value)} in float, "
    lines = [
        f"{goal.name} on {found.rows:,} rows: {in_float}{figure(goal, found.value)} in B; "
        f"the budget asks for at least {figure(goal, goal.least)}."
    ]
    if best is None:
        return [*lines, "B meets the budget: nothing to fix, nothing written."]
    if found.cost is None:
        return [*lines, *_missed(found, best)]
    lines.append(f"Written to {output}: {figure(goal, best.value)} with {_kept(best, found.weight_share)}.")
    lines.append(_cost_line(found.cost))
    if found.other is not None and found.cost.other is not None:
        lines.append(
            f"Within the budget, too: {figure(goal, found.other.value)} with {_kept_layers(found.other)}, "
            f"{found.other.bytes:,} bytes, {_milliseconds(found.cost.other)}."
        )
    lines += [f"Note: {note}." for note in found.notes]
    lines.append(f"{counted(len(found.attempts), 'conversion')} tried.")
    return [*lines, *_paste(found.format, settings)]


def figure(goal: Goal, value: float) -> str:
    """A figure of the goal with its unit."""
    return f"{value:.1f} dB" if goal.name == "SNR" else f"{value:.2%}"


def _missed(found: Fix, best: Attempt) -> list[str]:
    return [
        f"No set of layers meets it. The best of {counted(len(found.attempts), 'conversion')}: "
        f"{figure(found.goal, best.value)} with {_kept(best, found.weight_share)}. Nothing written.",
        "Try other calibration data, train with QuantizeAware, or allow more.",
    ]


def _kept(attempt: Attempt, share: float) -> str:
    return f"{_kept_layers(attempt)} ({share:.1%} of the weights)" if attempt.layers else "no layer kept wider"


def _kept_layers(attempt: Attempt) -> str:
    return f"{', '.join(attempt.layers)} {_PRECISION_WORDS[attempt.precision]}"


def _cost_line(cost: Cost) -> str:
    return (
        f"Cost: {cost.bytes_before:,} -> {cost.bytes_after:,} bytes; median latency on this machine, one thread, "
        f"{_milliseconds(cost.before)} -> {_milliseconds(cost.after)} ({cost.after.runs} runs each, in turns)."
    )


def _milliseconds(timing: Timing) -> str:
    return f"{timing.median_ms:.4f} ms"


def _paste(format: str, settings: dict[str, object]) -> list[str]:
    """The settings as lines of TOML."""
    if not settings:
        return []
    return ["", f"[convert.{format}]", *(f"{key} = {toml_value(value)}" for key, value in settings.items())]


def _attempt_json(attempt: Attempt) -> dict[str, object]:
    return {
        "precision": attempt.precision,
        "layers": list(attempt.layers),
        "value": _finite(attempt.value),
        "met": attempt.met,
        "bytes": attempt.bytes,
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity, which is an SNR without any error."""
    return value if math.isfinite(value) else None
