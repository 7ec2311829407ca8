"""All variants of a plan, converted and put before the checkers of their targets."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import zip_longest

from edgekit import preflight, workers
from edgekit.admission import Admission, available_bytes
from edgekit.conversion import Artifact, Converter, GpuConverter, Source, find_checker, find_converter
from edgekit.data import Data
from edgekit.errors import ConfigError, ConversionError, did_you_mean
from edgekit.files import size_of
from edgekit.manifest import State, StateTensor
from edgekit.planning import Plan, PlannedVariant
from edgekit.profiles import load_target
from edgekit.progress import Progress

Options = Mapping[str, object]  # format -> its settings, as in `[convert.FORMAT]`

SHARE_OF_MEMORY = 0.8  # of what is free when a build starts to convert
BASE_BYTES = 1 << 30  # what one conversion takes: TensorFlow and its converter
# And for each byte of the float model: its copies in them. benchmarks/tflite_memory.py measured it with 10 and 100
# million parameters (docs/tflite-results.md): TFLite's export takes 5. ONNX was stopped at 18, so 24 is an allowance,
# for formats of others too.
BYTES_PER_BYTE = {"tflite": 5}
OTHER_BYTES_PER_BYTE = 24
_KILL_EVERY_S = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Converted:
    """One planned variant and its file."""

    planned: PlannedVariant
    artifact: Artifact
    notes: tuple[str, ...]  # what the profiles and the checkers of its targets said


def converters_for(plan: Plan, options: Options) -> dict[str, Converter]:
    """The converter of each format of the plan, with the user's settings.

    Raises ConfigError on an unknown setting, and on settings of a format that no target of the plan takes.
    """
    for name in options:
        if name not in plan.formats:
            raise ConfigError(
                f"[convert.{name}]: no target of this build takes '{name}'{did_you_mean(name, plan.formats)}"
            )
    converters = {name: find_converter(name) for name in plan.formats}
    return {
        name: converter.with_options(options[name], where=f"[convert.{name}]") if name in options else converter
        for name, converter in converters.items()
    }


def convert_all(
    source: Source, plan: Plan, converters: Mapping[str, Converter], calibration: Data | None, progress: Progress
) -> tuple[list[Converted], dict[str, str]]:
    """Convert every variant, side by side as far as processors and memory go: each works in processes of its own.

    Returns what was made, and for each candidate that could not be made the reason. Raises ConversionError when
    another conversion fails, or a target or a checker refuses its file.
    """
    refused: dict[str, str] = {}
    admission = Admission(SHARE_OF_MEMORY * available_bytes())
    float_bytes = size_of(source.float_model)

    def convert(planned: PlannedVariant) -> Converted | None:
        converted = None
        with admission.admit(cost_bytes(planned.format, float_bytes)):
            try:
                converted = _convert(source, planned, converters[planned.format], calibration)
            except ConversionError as problem:
                if not planned.candidate:
                    raise
                refused[planned.id] = str(problem)
        advance(1, planned.id)
        return converted

    with progress.task("convert", len(plan.variants)) as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {variant.id: pool.submit(convert, variant) for variant in _in_turns(plan)}
        try:
            for future in wait(futures.values(), return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in futures.values()):
                workers.stop_all()
                time.sleep(_KILL_EVERY_S)
            raise
    made = (futures[variant.id].result() for variant in plan.variants)
    return [converted for converted in made if converted is not None], refused


def _convert(source: Source, planned: PlannedVariant, converter: Converter, calibration: Data | None) -> Converted:
    artifact = convert_one(source, planned, converter, calibration)
    if artifact.no_bundle is not None:
        raise ConversionError(f"{planned.id}: {artifact.no_bundle}")
    found = _preflight(planned, artifact, converter)
    return Converted(planned, _handed_on(artifact, source), (*found, *_check(planned, artifact, source)))


def _handed_on(artifact: Artifact, source: Source) -> Artifact:
    """The file with its state apart from its inputs and outputs."""
    if not source.states:
        return artifact
    takes, gives = ({item.name: item for item in side} for side in (artifact.inputs, artifact.outputs))
    tensors = tuple(
        StateTensor(takes.pop(port.taken.name), gives.pop(port.given.name), port.shape) for port in source.states
    )
    return replace(artifact, inputs=tuple(takes.values()), outputs=tuple(gives.values()), state=State(tensors))


def cost_bytes(format_name: str, float_bytes: int) -> int:
    """What converting one variant of a float model of this size takes, beyond this process."""
    return BASE_BYTES + BYTES_PER_BYTE.get(format_name, OTHER_BYTES_PER_BYTE) * float_bytes


def _in_turns(plan: Plan) -> list[PlannedVariant]:
    """The formats in turns: the first variant of each makes the export that the others of its format wait for."""
    groups = [[variant for variant in plan.variants if variant.format == name] for name in plan.formats]
    return [variant for turn in zip_longest(*groups) for variant in turn if variant is not None]


def convert_one(source: Source, planned: PlannedVariant, converter: Converter, calibration: Data | None) -> Artifact:
    """Convert one variant into the source's work folder."""
    if isinstance(converter, GpuConverter):
        gpus = (gpu for name in planned.targets for gpu in load_target(name).compute_capabilities)
        converter = converter.for_gpus(tuple(dict.fromkeys(gpus)))
    return converter.convert(
        source,
        precision=planned.precision,
        calibration=None if calibration is None else calibration.inputs,
        output=source.work / f"{planned.id}{converter.suffix}",
    )


def _preflight(planned: PlannedVariant, artifact: Artifact, converter: Converter) -> tuple[str, ...]:
    """What the delegates of its targets take of a file. Raises ConversionError when a target cannot run it."""
    if artifact.stand_in is not None:  # an engine tells nothing without its GPU
        converter, artifact = find_converter(artifact.stand_in.format), artifact.stand_in
    inspection, notes = converter.inspect(artifact.path), list[str]()
    for name in planned.targets:
        profile = load_target(name)
        preflight.check(profile, inspection, variant=planned.id)
        notes += preflight.delegate_notes(profile, inspection, precision=planned.precision)
    return tuple(notes)


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
