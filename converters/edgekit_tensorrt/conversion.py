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

ONNX = ".onnx"  # the suffix of a file that is built as it is
ENGINES = {"tensorrt": "tensorrt", RTX: "tensorrt-rtx"}  # package -> the runtime engine that runs what it built

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
        return find_converter("onnx").signatures

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

        A source that is an ONNX file keeps its precision; what can be mended in it without a change of results is.
        Raises ConversionError when a rule is broken, BuildError when TensorRT refuses it.
        """
        check_precision(self, precision)
        package = find_package(ahead_of_time=bool(self.options.recipe.compute_capabilities))
        if package == RTX and self.options.timing_cache_file is not None:
            raise ConversionError("TensorRT-RTX has no timing cache: leave timing_cache_file out")
        onnx = _given(source, precision) if source.float_model.suffix == ONNX else None
        if onnx is None:
            made = source.work / f"{output.stem}-for-tensorrt{ONNX}"
            onnx = find_converter("onnx").convert(source, precision=precision, calibration=calibration, output=made)
        findings = find_linter("onnx").lint(onnx.path, tool="tensorrt")
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
        )


def _said(report: BuildReport, capabilities: tuple[str, ...], onnx: Path) -> str:
    """ "built by TensorRT-RTX 1.7.1 in 3.2 s for SM89: 5 of 5 weighted layers planned as Int8"."""
    gpus = f" for {', '.join(capabilities)}" if capabilities else ""
    layers = f": {planned(onnx, report.plan)}" if report.plan else ""
    return f"built by {report.product} in {report.build_s:.1f} s{gpus}{layers}"


def _given(source: Source, precision: str) -> Artifact:
    """An ONNX file as it is, but for what the linter mends. Raises ConversionError for another precision."""
    converter: Converter = find_converter("onnx")
    found = converter.inspect(source.float_model)
    own = _precision(found)
    if precision not in ("fp32", own):  # fp32 is what nobody asked for in particular
        raise ConversionError(
            f"{source.float_model.name} is {own}, and an ONNX file is built as it is: "
            f"convert it to onnx {precision} first"
        )
    mended = source.work / source.float_model.name
    done = find_linter("onnx").legalize(source.float_model, mended, tool="tensorrt")
    return Artifact(
        format="onnx",
        precision=own,
        path=mended,
        inputs=tuple(Binding(spec.name, spec.name, spec.dtype) for spec in found.inputs),
        outputs=tuple(Binding(spec.name, spec.name, spec.dtype) for spec in found.outputs),
        engine="onnxruntime",
        engine_least_version="1.14",
        notes=done,
    )


def _precision(found: Inspection) -> str:
    """The narrowest type among the weights."""
    seen = {layer.precision for layer in found.layers if layer.sparsity is not None}
    return "int8" if "int8" in seen else "fp16" if "fp16" in seen else "fp32"
