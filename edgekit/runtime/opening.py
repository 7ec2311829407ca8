"""From a bundle or a converted file to a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.errors import ConfigError, EngineError, ModelError
from edgekit.manifest import Binding, Input, Variant
from edgekit.runtime.choosing import Choice, Rejected, ranked
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

    int8 comes before fp16 before fp32, and LiteRT before ONNX Runtime; `Session.choice` says what was chosen and why
    each other variant was not. With `require_signature`, or where a policy demands it (`edgekit.trust`), a key of the
    folder `trust` must have signed the bundle. Raises BundleError, EngineError when nothing runs here, ConfigError.
    """
    with Bundle.open(path) as bundle:
        check_signature(bundle, require=require_signature, trust=trust)
        return open_session(bundle, variant=variant, engine=engine, threads=threads)


def open_session(bundle: Bundle, *, variant: str | None = None, engine: str | None = None, threads: int = 1) -> Session:
    """`open_bundle` on a bundle that is open already; the session does not need it afterwards."""
    check_signature(bundle)  # whoever opened it, a policy holds
    if engine is not None:
        load_engine(engine)
    candidates = ranked(bundle.manifest.variants) if variant is None else [bundle.variant(variant)]
    engines = find_engines()
    rejected: list[Rejected] = []
    for candidate in candidates:
        reason = _why_not(candidate, engine, engines)
        if reason is None:
            try:
                return _open(bundle, candidate, threads, _explain(candidate, candidates, rejected, engines, engine))
            except EngineError as problem:
                reason = str(problem)
        rejected.append(Rejected(candidate.id, reason))
    raise EngineError(f"{bundle.path.name}: {_explain_none(rejected)}")


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
    return _start(content, variant, signature, threads, _Explanation(engines[variant.engine], "opened as a file", ()))


@dataclass(frozen=True)
class _Explanation:
    """What is known of a choice before the model is opened."""

    engine: EngineStatus
    reason: str
    rejected: tuple[Rejected, ...]


def _why_not(variant: Variant, engine: str | None, engines: Mapping[str, EngineStatus]) -> str | None:
    if engine is not None and variant.engine != engine:
        return f"it needs engine '{variant.engine}', '{engine}' was asked for"
    return why_not(variant, engines)


def _explain_none(rejected: Sequence[Rejected]) -> str:
    if len(rejected) == 1:
        return f"variant '{rejected[0].variant}' does not run here: {rejected[0].reason}"
    reasons = "; ".join(f"'{item.variant}': {item.reason}" for item in rejected)
    return f"no variant runs here: {reasons}"


def _explain(
    chosen: Variant,
    candidates: Sequence[Variant],
    rejected: Sequence[Rejected],
    engines: Mapping[str, EngineStatus],
    engine: str | None,
) -> _Explanation:
    if len(candidates) == 1:
        return _Explanation(engines[chosen.engine], "asked for, or the only one", ())
    later = [
        Rejected(variant.id, _why_not(variant, engine, engines) or f"'{chosen.id}' comes before it")
        for variant in candidates[len(rejected) + 1 :]
    ]
    reason = f"{chosen.precision} on {chosen.engine} is the first in order of preference that runs here"
    return _Explanation(engines[chosen.engine], reason, (*rejected, *later))


def _open(bundle: Bundle, variant: Variant, threads: int, explanation: _Explanation) -> Session:
    manifest = bundle.manifest
    signature = _signature(bundle.path.name, variant, manifest.inputs, manifest.outputs)
    return _start(bundle.read(variant.member.path), variant, signature, threads, explanation)


def _start(content: bytes, variant: Variant, signature: Signature, threads: int, explanation: _Explanation) -> Session:
    if threads < 1:
        raise ConfigError(f"threads is {threads}, expected at least 1")
    engine = load_engine(variant.engine)
    runner = engine.open_model(content, signature.input_bindings, signature.output_bindings, threads=threads)
    status = explanation.engine
    choice = Choice(
        variant=variant.id,
        engine=variant.engine,
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
