"""All variants of a plan, converted and put before the checkers of their targets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edgekit import workers
from edgekit.conversion import Artifact, Source, find_checker, find_converter
from edgekit.data import Data
from edgekit.errors import ConversionError
from edgekit.planning import Plan, PlannedVariant
from edgekit.progress import Advance, Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Converted:
    """One planned variant and its file."""

    planned: PlannedVariant
    artifact: Artifact
    notes: tuple[str, ...]  # what the checkers of its targets said


def convert_all(source: Source, plan: Plan, calibration: Data, progress: Progress) -> list[Converted]:
    """Convert every variant; formats run side by side, since each converter works in processes of its own.

    Raises ConversionError when a conversion fails or a checker refuses its file.
    """
    with progress.task("convert", len(plan.variants)) as advance, ThreadPoolExecutor(len(plan.formats)) as pool:
        groups = [[variant for variant in plan.variants if variant.format == name] for name in plan.formats]
        futures = [pool.submit(_convert_group, source, group, calibration, advance) for group in groups]
        try:
            done = {item.planned.id: item for future in futures for item in future.result()}
        except BaseException:
            workers.stop_all()
            raise
    return [done[variant.id] for variant in plan.variants]


def convert_one(source: Source, planned: PlannedVariant, calibration: Data | None) -> Artifact:
    """Convert one variant into the source's work folder."""
    converter = find_converter(planned.format)
    return converter.convert(
        source,
        precision=planned.precision,
        calibration=None if calibration is None else calibration.inputs,
        output=source.work / f"{planned.id}{converter.suffix}",
    )


def _convert_group(
    source: Source, group: Sequence[PlannedVariant], calibration: Data, advance: Advance
) -> list[Converted]:
    converted = []
    for planned in group:
        artifact = convert_one(source, planned, calibration)
        converted.append(Converted(planned, artifact, _check(planned, artifact, source)))
        advance(1, planned.id)
    return converted


def _check(planned: PlannedVariant, artifact: Artifact, source: Source) -> tuple[str, ...]:
    """What each checker says, in words. Raises ConversionError on a refusal."""
    notes = []
    for name in planned.checkers:
        checker = find_checker(name)
        missing = checker.available()
        if missing is not None:
            log.info("%s: not checked by %s: %s", planned.id, name, missing)
            notes.append(f"not checked by {name}: {missing}")
            continue
        verdict = checker.check(artifact, work=source.work)
        if not verdict.accepted:
            raise ConversionError(f"{planned.id}: refused by the {verdict.checker}: {verdict.detail}")
        notes.append(f"accepted by the {verdict.checker}: {verdict.detail}")
    return tuple(notes)
