"""The flow for a decoder: load, export with its cache, convert, measure on text, bundle, try on a device, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.budgets import Budget, BudgetItem, BudgetVerdict
from edgekit.build_inputs import name_and_version
from edgekit.conversion import Converter
from edgekit.converting import Options, convert_all, converters_for
from edgekit.decoders.measuring import METRIC, MeasuredText, Reference, measure_texts, perplexity_of
from edgekit.decoders.settings import LanguageProject, LanguageSettings, Precisions, plan_language
from edgekit.decoders.texts import (
    DecoderInSteps,
    evaluation_data,
    evaluation_tokens,
    golden_prompts,
    open_tokenizer,
    stop_tokens,
)
from edgekit.decoding import LOGITS, export_decoder
from edgekit.devices import LOCAL, check_device
from edgekit.files import fresh_folder, sha256_file, workspace
from edgekit.language import TOKENS, is_pretrained
from edgekit.language.caching import cache_shapes
from edgekit.lengths import Lengths
from edgekit.loading import load
from edgekit.manifest import Input, Language, Member
from edgekit.measuring import compare_pairs
from edgekit.packing import pack, packed_bytes, provenance
from edgekit.pipeline import STEPS, Build, publish_build
from edgekit.planning import Plan
from edgekit.progress import LoggedProgress, Progress
from edgekit.project import check_name
from edgekit.report import Findings, ModelFacts, assemble
from edgekit.runtime.golden import GoldenVectors
from edgekit.runtime.golden_texts import GoldenTexts
from edgekit.strict import canonical_json
from edgekit.tokenizing import TOKENIZER
from edgekit.trials import try_on

TEXTS_MEMBER = "golden-texts.json"
_GOLDEN_ROWS = 8  # whose scores the bundle holds
_CACHE_ITEM_BYTES = 4  # of float32


@dataclass(frozen=True)
class LanguageRequest:
    """What a language model's build is asked for; `build_language` documents the fields."""

    model: Path
    settings: LanguageSettings
    targets: Precisions
    output: Path
    lengths: Lengths | None = None
    convert: Options = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    device: str = LOCAL
    allow_code: bool = False
    progress: Progress = field(default_factory=LoggedProgress)


def build_language(
    model: str | Path,
    *,
    language: LanguageSettings,
    targets: Precisions,
    output: str | Path,
    lengths: Lengths | None = None,
    convert: Options | None = None,
    budget: Budget | None = None,
    device: str = LOCAL,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> Build:
    """Make `output` (`NAME-VERSION.edgekit`) of a decoder, with its report and the `.keras` beside it.

    `model` is a folder of pretrained weights of `model_type` "llama", or a `.keras` file with RotaryAttention layers,
    whose open length `lengths` fix. `targets` are profile names with their precisions. `language`, `convert` and
    `budget` are the tables of a project file; `device` times and tests the bundle. Nothing appears at `output` unless
    every stage succeeded; a perplexity that rises too far is said in the report and is no exception. Raises
    EdgekitError.
    """
    request = LanguageRequest(
        Path(model), language, targets, Path(output), lengths, convert or {}, budget or Budget(), device, allow_code,
        progress or LoggedProgress(),
    )  # fmt: skip
    check_name(*name_and_version(request.output), where=str(request.output))
    planned = plan_language(targets)
    converters = converters_for(planned, request.convert)
    check_device(device)
    reference, words = _read(request)
    with workspace(request.output, resume=False, worth_keeping=STEPS) as work:
        return _build(request, planned, converters, reference, words, work)


def build_language_project(
    project: LanguageProject,
    folder: Path,
    *,
    device: str | None = None,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> Build:
    """Build a project file with `[language]` into `folder`; `device` goes before the file's."""
    return build_language(
        project.model,
        language=project.settings,
        targets=project.targets,
        output=folder / f"{project.name}-{project.version}.edgekit",
        lengths=project.lengths,
        convert=project.convert,
        budget=project.budget,
        device=device or project.device,
        allow_code=allow_code,
        progress=progress,
    )


@dataclass(frozen=True)
class _Words:
    """Where tokens come from and where they end."""

    tokenizer: Path
    stop_tokens: tuple[int, ...]


def _read(request: LanguageRequest) -> tuple[Reference, _Words]:
    """The model and the texts, with what the float model makes of them."""
    settings, path = request.settings, request.model
    lengths = {TOKENS: settings.context} if is_pretrained(path) else request.lengths
    loaded = load(path, allow_code=request.allow_code, lengths=lengths)
    model = DecoderInSteps(loaded, settings.context)
    file, tokenizer = open_tokenizer(settings, path, model.vocabulary)
    tokens = evaluation_tokens(settings, tokenizer)
    evaluation = evaluation_data(tokens, model, settings.evaluation)
    scores = model.predict(evaluation.inputs)[LOGITS]
    rows = evaluation.first(_GOLDEN_ROWS)
    text = tokens[: settings.context]
    texts = GoldenTexts(
        prompts=golden_prompts(settings, tokenizer, tokens, model),
        text=text,
        perplexity=perplexity_of(scores[: len(text) - 1], evaluation.need_labels()[: len(text) - 1]),
    )
    golden = GoldenVectors(rows.inputs, {LOGITS: scores[: len(rows)]})
    return (
        Reference(model, evaluation, scores, golden, texts),
        _Words(file, stop_tokens(settings, path, tokenizer)),
    )


def _build(
    request: LanguageRequest,
    planned: Plan,
    converters: Mapping[str, Converter],
    reference: Reference,
    words: _Words,
    work: Path,
) -> Build:
    settings, model, folder = request.settings, reference.model, fresh_folder(work / "convert")
    source = export_decoder(model.loaded, folder, context=settings.context, prefill=settings.prefill)
    converted, _ = convert_all(source, planned, converters, None, request.progress)
    texts = work / TEXTS_MEMBER
    texts.write_bytes(canonical_json(dataclasses.asdict(reference.texts)))
    language, inputs = _language(settings, model, words, texts), _inputs(model)
    measured = measure_texts(
        reference, converted, settings, inputs=inputs, language=language, progress=request.progress
    )
    candidate = work / request.output.name
    manifest = pack(
        candidate, [item.measured for item in measured], reference.golden,
        identity=name_and_version(request.output), model=model, labels=None, inputs=inputs,
        provenance=provenance(model, {"evaluation": reference.evaluation}),
        language=replace(language, tolerances={item.measured.variant.id: item.tolerance for item in measured}),
        texts={TOKENIZER: words.tokenizer, TEXTS_MEMBER: texts},
    )  # fmt: skip
    trial = try_on(request.device, candidate, request.progress)
    findings = Findings(
        manifest, [item.measured for item in measured], packed_bytes(candidate), trial,
        _model_facts(request, reference), planned.preferred,
        (f"perplexity of the float model: {reference.perplexity:.4g}", *map(str, measured)),
        compare_pairs(reference.golden, [item.measured for item in measured]),
    )  # fmt: skip
    report = assemble(findings, request.budget)
    report = replace(report, budget=_with_perplexity(report.budget, measured))
    return publish_build(request.output, candidate, model.loaded, report, manifest)


def _language(settings: LanguageSettings, model: DecoderInSteps, words: _Words, texts: Path) -> Language:
    """Before there is anything measured."""
    kept = sum(2 * shape.groups * shape.size for shape in cache_shapes(model.loaded.model))
    return Language(
        tokenizer=Member(TOKENIZER, sha256_file(words.tokenizer), words.tokenizer.stat().st_size),
        context=settings.context,
        prefill=settings.prefill,
        stop_tokens=words.stop_tokens,
        cache_bytes=_CACHE_ITEM_BYTES * settings.context * kept,
        golden=Member(TEXTS_MEMBER, sha256_file(texts), texts.stat().st_size),
        tolerances={},
    )


def _inputs(model: DecoderInSteps) -> tuple[Input, ...]:
    tokens, position = model.inputs
    return (
        Input(tokens.name, tokens.shape, tokens.dtype, (0.0, float(model.vocabulary - 1))),
        Input(position.name, position.shape, position.dtype, (0.0, float(model.context - 1))),
    )


def _model_facts(request: LanguageRequest, reference: Reference) -> ModelFacts:
    model, origin = reference.model, reference.model.origin
    parameters = origin.parameters if origin else model.parameters
    name, version = name_and_version(request.output)
    return ModelFacts(
        name=name,
        version=version,
        metric_name=METRIC,
        float_metric=None if origin else reference.accuracy,
        float_parameters=parameters,
        float_bytes=4 * parameters,
        compressed_metric=reference.accuracy,
        compressed_parameters=model.parameters,
        compressed_sparsity=model.sparsity,
        evaluation_samples=len(reference.evaluation),
    )


def _with_perplexity(verdict: BudgetVerdict, measured: Sequence[MeasuredText]) -> BudgetVerdict:
    """The allowed rise of each variant among the limits."""
    items = tuple(
        BudgetItem(
            f"perplexity rise of {variant.id}", item.allowed_rise, item.rise, item.rise <= item.allowed_rise, variant.id
        )
        for item in measured
        for variant in (item.measured.variant,)
    )
    return BudgetVerdict(verdict.met and all(item.met for item in items), (*verdict.items, *items))
