"""From a bundle or a converted file to a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any  # Any: arguments of one engine alone

from edgekit.bundle import Bundle
from edgekit.errors import BundleError, ConfigError, EngineError, ModelError
from edgekit.manifest import Binding, Input, Language, Member, Variant
from edgekit.runtime.choosing import Choice, Rejected, Way, reasons_by_variant, ways
from edgekit.runtime.engines import (
    HERE,
    PLAN,
    PLAN_REFUSED,
    TENSORRT,
    EngineStatus,
    Runner,
    Shelf,
    find_engines,
    load_engine,
    why_not,
)
from edgekit.runtime.session import DEFAULT_QUEUE_SIZE, Session, Signature
from edgekit.runtime.state import with_state
from edgekit.tensors import TensorSpec
from edgekit.trust import check_signature, is_trusted


def open_bundle(
    path: str | Path,
    *,
    variant: str | None = None,
    engine: str | None = None,
    accelerator: str | None = None,
    threads: int = 1,
    queue_size: int = DEFAULT_QUEUE_SIZE,
    require_signature: bool = False,
    trust: Path | None = None,
) -> Session:
    """Open the best variant of a bundle that runs here, or the one that is named.

    What TensorRT can build for the GPU of this device comes first: the first time, that takes minutes. Then int8 comes
    before fp16 before fp32, and LiteRT before ONNX Runtime; of a language model, dynamic-int8
    and then int4-weights come before all. `Session.choice` says what was chosen and why each other variant, or the same
    one on another engine, was not.
    With `accelerator`, only what runs on it is opened: "cpu" (without XNNPACK), "xnnpack", "cuda", or the path of a
    LiteRT delegate's library; `Session.choice.notes` says what of the model runs elsewhere. `queue_size` is of
    `Session.submit`. With `require_signature`, or where a policy demands it (`edgekit.trust`), a key of the folder
    `trust` must have signed the bundle; a TensorRT engine inside it, which holds code, is run for such a key alone.
    Raises BundleError, EngineError when nothing runs here, ConfigError.
    """
    with Bundle.open(path) as bundle:
        check_signature(bundle, require=require_signature, trust=trust)
        return open_session(
            bundle,
            variant=variant,
            engine=engine,
            accelerator=accelerator,
            threads=threads,
            queue_size=queue_size,
            trust=trust,
        )


def open_session(
    bundle: Bundle,
    *,
    variant: str | None = None,
    engine: str | None = None,
    accelerator: str | None = None,
    threads: int = 1,
    queue_size: int = DEFAULT_QUEUE_SIZE,
    trust: Path | None = None,
    shelf: Shelf = HERE,
) -> Session:
    """`open_bundle` on a bundle that is open already, on the engines of `shelf`; the session does not need it later."""
    asked = _Asked(accelerator, threads, queue_size, shelf)
    check_signature(bundle)  # whoever opened it, a policy holds
    if engine is not None:
        load_engine(engine)
    wanted = bundle.manifest.variants if variant is None else [bundle.variant(variant)]
    candidates = ways(wanted, text=bundle.manifest.language is not None)
    engines = shelf.find({way.engine for way in candidates})
    why = partial(_why_not, engine=engine, engines=engines, plan_refused=plan_refusal(bundle, trust=trust))
    refused: list[tuple[Way, str]] = []
    for index, way in enumerate(candidates):
        reason = why(way)
        if reason is None:
            later = [(other, why(other)) for other in candidates[index + 1 :]]
            try:
                return _open(bundle, way, asked, _explain(way, refused, later, engines))
            except EngineError as problem:
                reason = str(problem)
        refused.append((way, reason))
    raise EngineError(f"{bundle.path.name}: {_explain_none(reasons_by_variant(refused))}")


def plan_refusal(bundle: Bundle, *, trust: Path | None = None) -> str | None:
    """Why TensorRT engines of the bundle, which hold code, are not to be loaded; None where a signature counts here."""
    if all(variant.format != PLAN for variant in bundle.manifest.variants):
        return PLAN_REFUSED
    try:
        return None if is_trusted(bundle, trust=trust) else PLAN_REFUSED
    except EngineError as problem:  # nothing here checks signatures; other variants may run
        return f"{PLAN_REFUSED}; {problem}"


def open_file(
    path: Path,
    variant: Variant,
    inputs: Sequence[Input],
    outputs: Sequence[TensorSpec],
    *,
    threads: int = 1,
    language: Language | None = None,
) -> Session:
    """Open a converted file before it is packed; with `language`, a language model's, for tokens.

    Raises ModelError when it cannot be read, EngineError.
    """
    engines = find_engines({variant.engine})
    reason = why_not(variant, engines)
    if reason is not None:
        raise EngineError(f"{path.name}: {reason}")
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise ModelError(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    signature = replace(_signature(path.name, variant, inputs, outputs), language=language)
    explanation = _Explanation(engines[variant.engine], "opened as a file", ())
    return _start(path.read_bytes, content, Way(variant, variant.engine), signature, _Asked(None, threads), explanation)


@dataclass(frozen=True)
class _Asked:
    """How a caller wants it opened. Raises ConfigError."""

    accelerator: str | None
    threads: int
    queue_size: int = DEFAULT_QUEUE_SIZE
    shelf: Shelf = HERE

    def __post_init__(self) -> None:
        for name, value in (("threads", self.threads), ("queue_size", self.queue_size)):
            if value < 1:
                raise ConfigError(f"{name} is {value}, expected at least 1")


@dataclass(frozen=True)
class _Explanation:
    """What is known of a choice before the model is opened."""

    engine: EngineStatus
    reason: str
    rejected: tuple[Rejected, ...]


def _why_not(
    way: Way, *, engine: str | None, engines: Mapping[str, EngineStatus], plan_refused: str | None
) -> str | None:
    if engine is not None and way.engine != engine:
        return f"it needs engine '{way.engine}', '{engine}' was asked for"
    return why_not(way.variant, engines, way.engine, plan_refused=plan_refused)


def _explain_none(rejected: Sequence[Rejected]) -> str:
    if len(rejected) == 1:
        return f"variant '{rejected[0].variant}' does not run here: {rejected[0].reason}"
    by_reason: dict[str, list[str]] = {}
    for item in rejected:
        by_reason.setdefault(item.reason, []).append(f"'{item.variant}'")
    reasons = "; ".join(f"{', '.join(variants)}: {reason}" for reason, variants in by_reason.items())
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


def _open(bundle: Bundle, way: Way, asked: _Asked, explanation: _Explanation) -> Session:
    manifest = bundle.manifest
    signature = _signature(bundle.path.name, way.variant, manifest.inputs, manifest.outputs)
    if manifest.language is not None:
        tokenizer = bundle.read(manifest.language.tokenizer.path)
        signature = replace(signature, language=manifest.language, tokenizer=tokenizer)
    read = partial(_read_again, bundle.path, way.variant.member, signature.where)
    return _start(read, bundle.read(way.variant.member.path), way, signature, asked, explanation)


def _read_again(path: Path, member: Member, where: str) -> bytes:
    """The same bytes as before. Raises BundleError when the file has changed since, or is gone."""
    with Bundle.open(path) as bundle:
        if member not in bundle.manifest.members:
            raise BundleError(f"{where}: the file was changed since it was opened; open it again")
        return bundle.read(member.path)


def _start(
    read: Callable[[], bytes], content: bytes, way: Way, signature: Signature, asked: _Asked, explanation: _Explanation
) -> Session:
    tensors = () if way.variant.state is None else way.variant.state.tensors
    settings = {"threads": asked.threads, "recipe": way.variant.tensorrt, "accelerator": asked.accelerator}
    opener = partial(_opener(way, asked.shelf), **settings)
    sides = (
        (*signature.input_bindings, *(tensor.taken for tensor in tensors)),
        (*signature.output_bindings, *(tensor.given for tensor in tensors)),
    )
    once = partial(opener, content, *sides)
    runner = once() if way.variant.state is None else with_state(once, way.variant.state)
    status = explanation.engine
    choice = Choice(
        variant=way.variant.id,
        engine=way.engine,
        package=status.package or "",
        engine_version=status.version or "",
        accelerator=runner.accelerator,
        threads=asked.threads,
        reason=explanation.reason,
        rejected=explanation.rejected,
        notes=runner.notes,
    )

    def again(**more: Any) -> Runner:
        return opener(read(), *sides, **more)

    return Session(runner, signature, choice, queue_size=asked.queue_size, reopen=again)


def _opener(way: Way, shelf: Shelf) -> Callable[..., Runner]:
    """What opens the file: TensorRT builds from ONNX, and takes engines as they are."""
    if way.variant.format == PLAN and way.engine == TENSORRT:
        from edgekit.runtime.engine_tensorrt import open_plan  # not at the top: it brings what few sessions need

        return open_plan
    return shelf.load(way.engine).open_model


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
