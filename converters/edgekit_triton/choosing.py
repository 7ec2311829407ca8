"""Which variant of a bundle Triton serves, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.errors import ConversionError
from edgekit.manifest import PRECISIONS, Variant
from edgekit.runtime.choosing import Rejected
from edgekit_triton.options import Options

ONNX, PLAN = "onnx", "tensorrt"

# On the CPU as the demo of edgekit measured it (README). On a GPU by what has kernels: "it is not possible to run
# quantized models on CUDAExecutionProvider", which TensorRT does (Hugging Face Optimum, onnxruntime/usage_guides/gpu).
_CPU = ("fp32", "fp16", "int8")
_CUDA = ("fp16", "fp32", "int8")
_TENSORRT = ("int8", "fp16", "fp32")


@dataclass(frozen=True)
class Choice:
    """The variant that is served."""

    variant: Variant
    reason: str
    left_out: tuple[Rejected, ...]


def choose(variants: Sequence[Variant], options: Options, *, where: str) -> Choice:
    """The variant that was asked for, else the best by a rule of thumb.

    `where` names the bundle. Raises ConversionError when it holds none that Triton runs, or none that was asked for.
    """
    refused = {variant.id: _refusal(variant) for variant in variants}
    usable = [variant for variant in variants if refused[variant.id] is None]
    if not usable:
        reasons = "; ".join(f"'{name}': {reason}" for name, reason in refused.items())
        raise ConversionError(
            f"{where}: no variant that Triton runs ({reasons}): build the bundle for a target that takes ONNX too"
        )
    wanted = [variant for variant in usable if _asked_for(variant, options)]
    if not wanted:
        raise ConversionError(f"{where}: {_nothing_wanted(options, refused, usable)}")
    order, _ = _order(options)
    chosen = min(wanted, key=lambda variant: (variant.format != ONNX, order.index(variant.precision), variant.id))
    left_out = tuple(
        Rejected(variant.id, refused[variant.id] or f"'{chosen.id}' is served: serve this one as a model of its own")
        for variant in variants
        if variant is not chosen
    )
    return Choice(chosen, _reason(chosen, wanted, usable, options), left_out)


def _refusal(variant: Variant) -> str | None:
    if variant.state is not None:
        return "it keeps state from call to call, which this exporter does not hand on"
    if variant.format not in (ONNX, PLAN):
        return f"Triton has no backend of its own for {variant.format}"
    if variant.format == PLAN and variant.engine != PLAN:
        return f"Triton's TensorRT backend does not run engines of {variant.engine}"
    return None


def _asked_for(variant: Variant, options: Options) -> bool:
    return options.variant in (None, variant.id) and options.precision in (None, variant.precision)


def _nothing_wanted(options: Options, refused: dict[str, str | None], usable: Sequence[Variant]) -> str:
    there = f"Triton runs {', '.join(variant.id for variant in usable)} of it"
    reason = refused.get(options.variant or "")
    if reason is not None:
        return f"variant '{options.variant}' cannot be served: {reason}; {there}"
    words = [f"'{options.variant}'"] if options.variant else []
    words += [f"in precision {options.precision}"] if options.precision else []
    return f"no variant {' '.join(words)} that Triton runs; {there}"


def _order(options: Options) -> tuple[tuple[str, ...], str]:
    """Precisions from the best on, and what runs them."""
    if options.cpu:
        best, place = _CPU, "ONNX Runtime on a CPU"
    elif options.tensorrt_accelerator:
        best, place = _TENSORRT, "TensorRT"
    else:
        best, place = _CUDA, "ONNX Runtime on a GPU"
    return (*best, *(precision for precision in PRECISIONS if precision not in best)), place


def _reason(chosen: Variant, wanted: Sequence[Variant], usable: Sequence[Variant], options: Options) -> str:
    if len(usable) == 1:
        return "the only variant that Triton runs"
    if len(wanted) == 1:
        return "asked for"
    rivals = {variant.precision for variant in wanted if variant.format == chosen.format}
    if len(rivals) == 1:
        return f"the first {chosen.precision} variant, ONNX before an engine that one kind of GPU runs"
    order, place = _order(options)
    present = " before ".join(precision for precision in order if precision in rivals)
    return f"{present} for {place}: a rule, not a measurement on your server"
