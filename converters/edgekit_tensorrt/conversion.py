"""The TensorRT converter: typed ONNX by the ONNX converter, and an engine built from it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.conversion import (
    Artifact,
    Converter,
    Inspection,
    Source,
    check_precision,
    find_converter,
    find_linter,
)
from edgekit.errors import ConversionError
from edgekit.manifest import Binding
from edgekit.tensorrt.bindings import RTX, find_package, release
from edgekit.tensorrt.building import BuildReport, build_engine
from edgekit.tensors import Array
from edgekit.tracing import Trace
from edgekit_tensorrt.checking import listed, planned
from edgekit_tensorrt.options import TensorRTOptions, parse_options

BUILT_FROM, ONNX = "onnx", ".onnx"  # the format of the files that engines are built from, and their suffix
UNASKED = "fp32"  # of a given file that has its types already, nobody asks for it in particular
ENGINES = {"tensorrt": "tensorrt", RTX: "tensorrt-rtx"}  # package -> the runtime engine that runs what it built

# NVIDIA TensorRT-RTX documentation, "CPU-Only AOT and TensorRT-RTX Engines": without compute capabilities
_PORTABLE = "SM80, SM86, SM89, SM120 and later"
_UNREADABLE = "an engine tells what is inside only to TensorRT on its GPU: give the ONNX file that it was built from"


@dataclass(frozen=True)
class TensorRTConverter:
    """Makes `.engine` files: TensorRT-RTX ahead of time for GPUs that need not be here, TensorRT for the one here."""

    options: TensorRTOptions = field(default_factory=TensorRTOptions)
    progress: Callable[[float], object] | None = None

    @property
    def format(self) -> str:
        """ "tensorrt"."""
        return "tensorrt"

    @property
    def built_from(self) -> str:
        """ "onnx"."""
        return BUILT_FROM

    @property
    def suffix(self) -> str:
        """ ".engine"."""
        return ".engine"

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those of ONNX: networks are strongly typed."""
        return ("fp32", "fp16", "int8")

    @property
    def signatures(self) -> tuple[str, ...]:
        """Those of ONNX."""
        return find_converter(BUILT_FROM).signatures

    def with_options(self, options: object, *, where: str) -> TensorRTConverter:
        """With a recipe's keys, `timing_cache_file` and `timeout_s`. Raises ConfigError on any other."""
        return replace(self, options=parse_options(options, where=where))

    def for_gpus(self, compute_capabilities: tuple[str, ...]) -> TensorRTConverter:
        """For these GPUs, unless the options name others."""
        if self.options.recipe.compute_capabilities:
            return self
        recipe = replace(self.options.recipe, compute_capabilities=compute_capabilities)
        return replace(self, options=replace(self.options, recipe=recipe))

    def reporting(self, progress: Callable[[float], object]) -> TensorRTConverter:
        """With `progress` called with the fraction of an engine that is built."""
        return replace(self, progress=progress)

    def convert(
        self, source: Source, *, precision: str, calibration: Mapping[str, Array] | None, output: Path
    ) -> Artifact:
        """Make the ONNX file, hold it against TensorRT's rules, build it, and write `output`.

        A source that is an ONNX file of this precision, or of another where fp32 is asked for, stays as it is; what can
        be mended in it without a change of results is. Raises ConversionError when a rule is broken, BuildError when
        TensorRT refuses it.
        """
        check_precision(self, precision)
        package = find_package(ahead_of_time=bool(self.options.recipe.compute_capabilities))
        if package == RTX and self.options.timing_cache_file is not None:
            raise ConversionError("TensorRT-RTX has no timing cache: leave timing_cache_file out")
        onnx = _typed(source, precision, calibration, source.work / f"{output.stem}-for-tensorrt{ONNX}")
        findings = find_linter(BUILT_FROM).lint(onnx.path, tool="tensorrt")
        if findings:
            raise ConversionError(f"TensorRT would not take {onnx.path.name}: {listed(findings)}")
        return self._built(onnx, output)

    def inspect(self, path: Path) -> Inspection:
        """Raises ConversionError: nothing reads an engine without its GPU."""
        raise ConversionError(f"{path.name}: {_UNREADABLE}")

    def trace(self, path: Path) -> Trace:
        """Raises ConversionError: nothing reads an engine without its GPU."""
        raise ConversionError(f"{path.name}: {_UNREADABLE}")

    def _built(self, onnx: Artifact, output: Path) -> Artifact:
        cache, recipe = self.options.timing_cache_file, self.options.recipe
        report = build_engine(
            onnx.path,
            recipe,
            output,
            timeout_s=self.options.timeout_s,
            progress=self.progress,
            timing_cache=None if cache is None else Path(cache),
        )
        notes = (*onnx.notes, *report.notes, _said(report, recipe.compute_capabilities, onnx.path))
        return replace(
            onnx,
            format=self.format,
            path=output,
            engine=ENGINES[report.package],
            engine_least_version=release(report.version),
            notes=notes,
            stand_in=onnx,
            recipe=recipe,
            data=None,
        )


def _said(report: BuildReport, capabilities: tuple[str, ...], onnx: Path) -> str:
    """ "built by TensorRT-RTX 1.7.1 in 3.2 s for SM89: 5 of 5 weighted layers planned as Int8"."""
    own = _PORTABLE if report.package == RTX else "the GPU of this machine"
    gpus = f" for {', '.join(capabilities) or own}"
    layers = f": {planned(onnx, report.plan)}" if report.plan else ""
    return f"built by {report.product} in {report.build_s:.1f} s{gpus}{layers}"


def _typed(source: Source, precision: str, calibration: Mapping[str, Array] | None, output: Path) -> Artifact:
    """The ONNX file to build from: a given one as it is where that has the precision, else a converted one."""
    converter: Converter = find_converter(BUILT_FROM)
    if source.float_model.suffix == ONNX:
        found = converter.inspect(source.float_model)
        if precision in (UNASKED, found.precision):
            return _mended(_as_it_is(source.float_model, found), source.work)
    made = converter.convert(source, precision=precision, calibration=calibration, output=output)
    return _mended(made, source.work) if source.float_model.suffix == ONNX else made


def _as_it_is(path: Path, found: Inspection) -> Artifact:
    return Artifact(
        format=BUILT_FROM,
        precision=found.precision or UNASKED,
        path=path,
        inputs=tuple(Binding(spec.name, spec.name, spec.dtype) for spec in found.inputs),
        outputs=tuple(Binding(spec.name, spec.name, spec.dtype) for spec in found.outputs),
        engine="onnxruntime",
        engine_least_version="1.14",
    )


def _mended(onnx: Artifact, work: Path) -> Artifact:
    """What stands in TensorRT's way and can be mended without a change of results, which a given file may have."""
    path = work / onnx.path.name
    done = find_linter(BUILT_FROM).legalize(onnx.path, path, tool="tensorrt")
    return replace(onnx, path=path, notes=(*onnx.notes, *done))
