"""`edgekit compare --fix`: the least set of layers kept wider than int8 that brings a file back within its budget."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.calibration import representative
from edgekit.comparing import DEFAULT_SAMPLES, Comparison, check_samples, compare_sides
from edgekit.comparison import LayerComparison
from edgekit.comparison.model_file import ModelFile, run_file, time_files
from edgekit.conversion import Inspection, find_converter
from edgekit.data import Data, DataSource, load_data
from edgekit.errors import ConfigError, ConversionError
from edgekit.files import atomic
from edgekit.goals import Budget, Goal, class_count, find_goal
from edgekit.layers import keras_layers
from edgekit.lengths import Lengths
from edgekit.loading import LoadedModel
from edgekit.progress import Progress
from edgekit.runtime.timing import Timing
from edgekit.sides import Sides, named
from edgekit.tensors import Array
from edgekit.widening import Attempt, Layers, Try, fewest, reduced
from edgekit.wording import counted

PRECISIONS = {"tflite": ("int8", "int8-float-io"), "onnx": ("int8",)}  # of a file that can be fixed, by its format
FLOAT, WIDE_INTEGER = "fp32", "int16x8"  # what layers are kept at
CALIBRATION_SAMPLES = 200
WARMUP, RUNS = 10, 100
CLEARLY_FASTER = 1.25  # times: what makes up for a larger file


@dataclass(frozen=True)
class Cost:
    """What a met goal costs; latencies are of one sample in this process's machine, one thread, measured in turns."""

    bytes_before: int
    bytes_after: int
    before: Timing
    after: Timing
    other: Timing | None  # of Fix.other


@dataclass(frozen=True)
class Fix:
    """What was tried, and what came of it."""

    comparison: Comparison  # of the file as it was given, with its layers
    format: str  # "tflite"
    precision: str  # of the file as it was given
    goal: Goal
    rows: int  # that the goal is measured on
    value: float  # of the file as it was given
    best: Attempt | None  # what meets the goal, else the best of what was tried; None when the file meets it already
    other: Attempt | None  # the least set at the other precision, where that meets the goal, too
    weight_share: float  # fraction of the float model's weights that lie in layers kept wider by `best`
    cost: Cost | None  # None when nothing was written
    attempts: tuple[Attempt, ...]  # all, in the order they were made
    notes: tuple[str, ...]

    @property
    def met(self) -> bool:
        """Whether there is a file that meets the goal."""
        return self.best is None or self.best.met


def fix(
    reference: str | Path,
    other: str | Path,
    data: DataSource,
    output: str | Path,
    *,
    progress: Progress,
    samples: int = DEFAULT_SAMPLES,
    budget: Budget | None = None,
    calibration: DataSource | None = None,
    architecture: str | None = None,
    allow_code: bool = False,
    lengths: Lengths | None = None,
) -> Fix:
    """Write to `output` the file `other` with as few layers as needed kept wider, so that it meets the budget.

    `reference` is a Keras model or a float file, `other` an int8 or int8-float-io .tflite, an int8 .onnx, or such a
    variant of a bundle. The goal is measured on all of `data`; layers are ranked on `samples` rows of it.
    `calibration` defaults to `data`. Nothing is written when `other` meets the budget already, nor when no set of
    layers does. Raises EdgekitError.
    """
    check_samples(samples)
    target, budget = Path(output), budget or Budget()
    with tempfile.TemporaryDirectory(prefix="edgekit-fix-") as folder:
        sides = Sides(
            str(reference), str(other), Path(folder), architecture=architecture, allow_code=allow_code, lengths=lengths
        )
        given = _check(sides)
        suffix = find_converter(given.format).suffix
        if target.suffix != suffix:
            raise ConversionError(f"output is {target.name}, expected a name that ends in {suffix}")
        rows = _rows(data, sides, budget)
        comparison = compare_sides(sides, rows.spread(samples), layers=True, progress=progress)
        goal = find_goal(budget, sides.first.outputs, rows, sides.first.predict(rows.inputs))
        value = goal.measure(named(sides.second.predict(named(rows.inputs, sides.second.inputs)), sides.first.outputs))
        search = _Search(sides, str(given.precision), goal, rows, _calibration(calibration, sides, rows), progress)
        layers = _named_layers(sides, comparison)
        found = _Found() if goal.met(value) else _find(search, layers)
        best, left, cost = found.best, found.other, None
        if best is not None and best.met:
            best, left, cost = _choose(sides, best, left, rows)
            with atomic(target) as temporary:
                shutil.copyfile(best.file.path, temporary)
    return Fix(
        comparison=comparison,
        format=given.format,
        precision=search.precision,
        goal=goal,
        rows=len(rows),
        value=value,
        best=best,
        other=left,
        weight_share=layers.share(best.layers if best else ()),
        cost=cost,
        attempts=tuple(search.attempts),
        notes=(*found.notes, *_told(given, best, own_calibration=calibration is not None)),
    )


def widened(precision: str, layers: Iterable[str]) -> dict[str, object]:
    """What `[convert.FORMAT]` says to keep `layers` at `precision`."""
    patterns = [glob.escape(layer) for layer in layers]
    return {"keep_float": patterns} if precision == FLOAT else {"layers": dict.fromkeys(patterns, precision)}


def _check(sides: Sides) -> Inspection:
    """What is inside the second side. Raises ConfigError for what cannot be fixed."""
    first, second, file = sides.first, sides.second, sides.looked_into()
    if file.format not in PRECISIONS:
        raise ConfigError(f"{second.label} is {file.format}: --fix is for {' and '.join(PRECISIONS)} files")
    converter, precisions = find_converter(file.format), PRECISIONS[file.format]
    given = converter.inspect(Path(file.path))
    if given.precision not in precisions:
        raise ConfigError(f"{second.label} is {given.precision}: --fix is for {' and '.join(precisions)}")
    if isinstance(first.runs, LoadedModel):
        if first.runs.activation_ranges is not None:
            raise ConfigError(
                f"{first.label} brings the ranges that QuantizeAware trained, which --fix cannot widen: give that step "
                "the layers to skip, or the model before it"
            )
    elif (found := converter.inspect(Path(first.runs.path)).precision) != FLOAT:
        raise ConfigError(f"{first.label} is {found}: give the float file or the Keras model first")
    return given


def _rows(data: DataSource, sides: Sides, budget: Budget) -> Data:
    """All of the data; labels are class numbers where top-1 is measured."""
    classes = class_count(sides.first.outputs)
    free = classes is None or budget.min_snr is not None
    return load_data(data, sides.first.inputs, where="data", classes=classes, any_labels=free)


def _calibration(given: DataSource | None, sides: Sides, rows: Data) -> Mapping[str, Array]:
    inputs = sides.source.inputs
    source = Data(named(rows.inputs, inputs), None, rows.where) if given is None else given
    return representative(source, inputs, samples=CALIBRATION_SAMPLES).inputs


def _told(given: Inspection, best: Attempt | None, *, own_calibration: bool) -> Iterator[str]:
    """What a reader of a new file must know."""
    if best is None or not best.met:
        return
    if not own_calibration:
        yield "ranges were calibrated on the rows that the figure is measured on; --calibration takes others"
    if given.metadata is not None:
        yield "the metadata inside B is not carried over: build again with the settings in the project file"


@dataclass(frozen=True)
class _NamedLayers:
    """The layers that patterns can name: what they are to be widened together with, and their weights."""

    groups: tuple[Layers, ...]  # a culprit and what reads it, the worst culprit first
    parts: Mapping[str, frozenset[str]]  # layer -> all whose weights its operators hold
    bytes: Mapping[str, int]  # of each layer's weights in float

    def weights(self, layers: Iterable[str]) -> int:
        """Bytes of the float weights in these layers."""
        return sum(self.bytes[part] for part in {part for layer in layers for part in self.parts[layer]})

    def share(self, layers: Iterable[str]) -> float:
        """The fraction of all weights."""
        return self.weights(layers) / max(1, sum(self.bytes.values()))


def _named_layers(sides: Sides, comparison: Comparison) -> _NamedLayers:
    found, model = comparison.layers, sides.first.runs
    assert found is not None
    if isinstance(model, LoadedModel):
        sizes = Counter[str]()
        for item in keras_layers(model.model):
            sizes[item.name] += item.bytes
        names = {layer.tensor: layer.name for layer in found.layers if layer.keras_layers and layer.setting}
        parts: defaultdict[str, set[str]] = defaultdict(set)
        for layer in found.layers:
            parts[layer.name].update(layer.keras_layers)
        held = {name: frozenset(together) for name, together in parts.items()}
        return _NamedLayers(_groups(found, names), held, sizes)
    operators = find_converter(model.format).inspect(Path(model.path)).layers
    sizes = Counter({item.name: item.bytes for item in operators})
    names = {layer.tensor: layer.setting for layer in found.layers if layer.setting and layer.setting in sizes}
    return _NamedLayers(_groups(found, names), {name: frozenset([name]) for name in sizes}, sizes)


def _groups(found: LayerComparison, names: Mapping[str, str]) -> tuple[Layers, ...]:
    """An activation is as narrow as the narrower of what makes it and what reads it: they go together.

    `names` are those that patterns know, by tensor.
    """
    groups = (
        tuple(names[tensor] for tensor in (culprit.tensor, *culprit.readers) if tensor in names)
        for culprit in found.culprits(len(found.layers))
    )
    return tuple(tuple(dict.fromkeys(group)) for group in groups if group)


@dataclass
class _Search:
    """Converts the first side again with some layers kept wider, and keeps what came of it."""

    sides: Sides
    precision: str
    goal: Goal
    rows: Data
    calibration: Mapping[str, Array]
    progress: Progress
    attempts: list[Attempt] = field(default_factory=list)

    def at(self, wide: str) -> Try:
        """What tries layers at the precision `wide`; none twice."""

        def attempt(layers: Layers) -> Attempt:
            known = (tried for tried in self.attempts if (tried.precision, set(tried.layers)) == (wide, set(layers)))
            return next(known, None) or self._convert(wide, layers)

        return attempt

    def _convert(self, wide: str, layers: Layers) -> Attempt:
        source, work = self.sides.source, self.sides.work
        converter = find_converter(self.sides.looked_into().format)
        if layers:
            converter = converter.with_options(widened(wide, layers), where="--fix")
        path = work / f"attempt-{len(self.attempts)}{converter.suffix}"
        words = f"{counted(len(layers), 'layer')} at {wide}" if layers else "nothing wider"
        with self.progress.task(f"fix: {words}", 1) as advance:
            artifact = converter.convert(source, precision=self.precision, calibration=self.calibration, output=path)
            borders = source.inputs, source.outputs, artifact.inputs, artifact.outputs
            file = ModelFile(str(path), artifact.format, artifact.engine, *borders)
            outputs = run_file(file, named(self.rows.inputs, source.inputs), label=f"what --fix made with {wide}")
            value = self.goal.measure(named(outputs, self.sides.first.outputs))
            made = Attempt(wide, layers, value, self.goal.met(value), path.stat().st_size, file)
            advance(1, f"{self.goal.name} {value:.4g}")
        self.attempts.append(made)
        return made


@dataclass(frozen=True)
class _Found:
    """What a search came to, as in Fix."""

    best: Attempt | None = None
    other: Attempt | None = None
    notes: tuple[str, ...] = ()


def _find(search: _Search, layers: _NamedLayers) -> _Found:
    plain = search.at(search.precision)(())
    if plain.met:
        return _Found(plain, None, ("converted again with this calibration, it meets the budget: no layer is wider",))
    wide = fewest(layers.groups, search.at(FLOAT)) if layers.groups else None
    if wide is None:
        return _Found(max(search.attempts, key=lambda tried: tried.value))
    count, widest = wide
    weights = {name: layers.weights([name]) for name in widest.layers}
    least = reduced(widest, search.at(FLOAT), weights)
    if WIDE_INTEGER not in find_converter(search.sides.looked_into().format).precisions:
        return _Found(least)
    try:
        integers = fewest(layers.groups[:count], search.at(WIDE_INTEGER))
        other = integers and reduced(integers[1], search.at(WIDE_INTEGER), weights)
    except ConversionError as problem:
        return _Found(least, None, (f"{WIDE_INTEGER} could not be tried: {problem}",))
    if other is None:
        return _Found(least)
    smaller, larger = sorted([least, other], key=lambda tried: tried.bytes)
    return _Found(smaller, larger)


def _choose(sides: Sides, smaller: Attempt, larger: Attempt | None, rows: Data) -> tuple[Attempt, Attempt | None, Cost]:
    """(what is written, the other one, what it costs): the smaller file, unless the larger one is clearly faster."""
    files = {"before": sides.looked_into(), "smaller": smaller.file}
    if larger is not None:
        files["larger"] = larger.file
    timings = time_files(files, rows.first(1).inputs, warmup=WARMUP, runs=RUNS)
    chosen, left = ("smaller", smaller), ("larger", larger)
    if larger is not None and timings["smaller"].median_ms > CLEARLY_FASTER * timings["larger"].median_ms:
        chosen, left = ("larger", larger), ("smaller", smaller)
    size = Path(files["before"].path).stat().st_size
    cost = Cost(size, chosen[1].bytes, timings["before"], timings[chosen[0]], timings.get(left[0]))
    return chosen[1], left[1], cost
