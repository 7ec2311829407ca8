"""From a bundle or a converted file to a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.errors import ConfigError, EngineError, ModelError
from edgekit.manifest import Binding, Input, Variant
from edgekit.runtime.choosing import Choice, Rejected, Way, reasons_by_variant, ways
from edgekit.runtime.engines import EngineStatus, find_engines, load_engine, why_not
from edgekit.runtime.session import Session, Signature
from edgekit.tensors import TensorSpec
from edgekit.trust import check_signature


def open_bundle(
    path: str | Path,
    *,
    variant: str | None = None,
    engine: str | None = None,
    threads: int = 1,
    require_signature: bool = False,
    trust: Path | None = None,
) -> Session:
    """Open the best variant of a bundle that runs here, or the one that is named.

    What TensorRT can build for the GPU of this device comes first: the first time, that takes minutes. Then int8 comes
    before fp16 before fp32, and LiteRT before ONNX Runtime. `Session.choice` says what was chosen and why each other
    variant, or the same one on another engine, was not. With `require_signature`, or where a policy demands it
    (`edgekit.trust`), a key of the folder `trust` must have signed the bundle. Raises BundleError, EngineError when
    nothing runs here, ConfigError.
    """
    with Bundle.open(path) as bundle:
        check_signature(bundle, require=require_signature, trust=trust)
        return open_session(bundle, variant=variant, engine=engine, threads=threads)


def open_session(bundle: Bundle, *, variant: str | None = None, engine: str | None = None, threads: int = 1) -> Session:
    """`open_bundle` on a bundle that is open already; the session does not need it afterwards."""
    check_signature(bundle)  # whoever opened it, a policy holds
    if engine is not None:
        load_engine(engine)
    candidates = ways(bundle.manifest.variants if variant is None else [bundle.variant(variant)])
    engines = find_engines()
    refused: list[tuple[Way, str]] = []
    for index, way in enumerate(candidates):
        reason = _why_not(way, engine, engines)
        if reason is None:
            later = [(other, _why_not(other, engine, engines)) for other in candidates[index + 1 :]]
            try:
                return _open(bundle, way, threads, _explain(way, refused, later, engines))
            except EngineError as problem:
                reason = str(problem)
        refused.append((way, reason))
    raise EngineError(f"{bundle.path.name}: {_explain_none(reasons_by_variant(refused))}")


def open_file(
    path: Path, variant: Variant, inputs: Sequence[Input], outputs: Sequence[TensorSpec], *, threads: int = 1
) -> Session:
    """Open a converted file before it is packed. Raises ModelError when it cannot be read, EngineError."""
    engines = find_engines()
    reason = why_not(variant, engines)
    if reason is not None:
        raise EngineError(f"{path.name}: {reason}")
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise ModelError(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    signature = _signature(path.name, variant, inputs, outputs)
    explanation = _Explanation(engines[variant.engine], "opened as a file", ())
    return _start(content, Way(variant, variant.engine), signature, threads, explanation)


@dataclass(frozen=True)
class _Explanation:
    """What is known of a choice before the model is opened."""

    engine: EngineStatus
    reason: str
    rejected: tuple[Rejected, ...]


def _why_not(way: Way, engine: str | None, engines: Mapping[str, EngineStatus]) -> str | None:
    if engine is not None and way.engine != engine:
        return f"it needs engine '{way.engine}', '{engine}' was asked for"
    return why_not(way.variant, engines, way.engine)


def _explain_none(rejected: Sequence[Rejected]) -> str:
    if len(rejected) == 1:
        return f"variant '{rejected[0].variant}' does not run here: {rejected[0].reason}"
    reasons = "; ".join(f"'{item.variant}': {item.reason}" for item in rejected)
    return f"no variant runs here: {reasons}"


def _explain(
    chosen: Way,
    refused: Sequence[tuple[Way, str]],
    later: Sequence[tuple[Way, str | None]],
    engines: Mapping[str, EngineStatus],
) -> _Explanation:
    name = chosen.variant.id
    others = [(way, why or f"'{name}' comes before it") for way, why in (*refused, *later) if way.variant.id != name]
    own = "".join(f"; not on {way.engine}: {why}" for way, why in refused if way.variant.id == name)
    first = f"{chosen.variant.precision} on {chosen.engine} is the first in order of preference that runs here"
    reason = first if others else "asked for, or the only one"
    return _Explanation(engines[chosen.engine], reason + own, reasons_by_variant(others))


def _open(bundle: Bundle, way: Way, threads: int, explanation: _Explanation) -> Session:
    manifest = bundle.manifest
    signature = _signature(bundle.path.name, way.variant, manifest.inputs, manifest.outputs)
    return _start(bundle.read(way.variant.member.path), way, signature, threads, explanation)


def _start(content: bytes, way: Way, signature: Signature, threads: int, explanation: _Explanation) -> Session:
    if threads < 1:
        raise ConfigError(f"threads is {threads}, expected at least 1")
    runner = load_engine(way.engine).open_model(
        content, signature.input_bindings, signature.output_bindings, threads=threads, recipe=way.variant.tensorrt
    )
    status = explanation.engine
    choice = Choice(
        variant=way.variant.id,
        engine=way.engine,
        package=status.package or "",
        engine_version=status.version or "",
        accelerator=runner.accelerator,
        threads=threads,
        reason=explanation.reason,
        rejected=explanation.rejected,
    )
    return Session(runner, signature, choice)


def _signature(where: str, variant: Variant, inputs: Sequence[Input], outputs: Sequence[TensorSpec]) -> Signature:
    return Signature(
        where=where,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        input_bindings=_in_order(variant.inputs, [item.name for item in inputs]),
        output_bindings=_in_order(variant.outputs, [item.name for item in outputs]),
    )


def _in_order(bindings: Sequence[Binding], names: Sequence[str]) -> tuple[Binding, ...]:
    by_name = {binding.name: binding for binding in bindings}
    return tuple(by_name[name] for name in names)
