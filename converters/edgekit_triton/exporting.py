"""The exporter: one variant of a bundle as one version of a model in a Triton model repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.bundle_exporters import Exported
from edgekit.errors import ConfigError, ConversionError
from edgekit.manifest import Manifest, Variant
from edgekit.runtime.golden import read_golden
from edgekit.strict import parse
from edgekit_triton.batching import NO_BATCHING, max_batch_size
from edgekit_triton.choosing import PLAN, Choice, choose
from edgekit_triton.config import CONFIG_FILE, LABELS_FILE, MODEL_FILES, Facts, config_text
from edgekit_triton.ensemble import ENSEMBLE, companions, write_companion
from edgekit_triton.options import Options
from edgekit_triton.repository import Place, check_shared, find_place, publish_model, staging
from edgekit_triton.signature import read_signature
from edgekit_triton.warmup import FOLDER, Sample, warmup_samples

_PLAN_NOTE = (
    "a plan runs on the GPU and the TensorRT that it was built with; nothing of it could be checked here: its shapes "
    "are the manifest's"
)


@dataclass(frozen=True)
class TritonExporter:
    """Writes `NAME/config.pbtxt`, `NAME/VERSION/model.onnx` (or `model.plan`), labels and warm-up files.

    Where the bundle declares preprocessing, `NAME-preprocessing` and `NAME-ensemble` stand beside it.
    """

    options: Options = Options()  # noqa: RUF009  # frozen

    def with_options(self, options: object, *, where: str) -> TritonExporter:
        """This exporter with the user's settings. Raises ConfigError."""
        return TritonExporter(parse(Options, options, where=where))

    def export(self, bundle: Bundle, output: Path) -> Exported:
        """Add one version of the model to the repository `output`; other models and versions stay.

        Raises ConversionError when the bundle has no variant that Triton runs, ConfigError, OutputError, BundleError,
        and EngineError when ONNX Runtime is missing or refuses the file.
        """
        options, manifest = self.options, bundle.manifest
        choice = choose(manifest.variants, options, where=bundle.path.name)
        _check_accelerator(choice, options)
        place = find_place(
            output, options.name or manifest.name, version=options.version_folder, replace=options.replace
        )
        labels, notes = _labels(manifest, bundle.path.name)
        with staging(place) as folder:
            staged = folder / place.folder.name
            model = staged / str(place.version) / MODEL_FILES[choice.variant.format]
            model.parent.mkdir(parents=True)
            model.write_bytes(bundle.read(choice.variant.member.path))
            labelled = manifest.outputs[0].name if labels else None
            facts = _facts(model, bundle, choice.variant, options, name=place.folder.name, labelled=labelled)
            shared = {CONFIG_FILE: config_text(facts, options).encode()} | ({LABELS_FILE: labels} if labels else {})
            check_shared(place, shared)
            _write_beside(staged, shared, facts.samples)
            before, after = _staged_companions(facts, manifest, options, labels, place=place, folder=folder)
            # An ensemble comes last: a server that polls finds what it is made of.
            staged_models = (*before, (staged, place), *after)
            files = tuple(path for each, where in staged_models for path in publish_model(each, where))
        notes = (*notes, *_notes(choice.variant, facts), *_ensemble_notes(facts, bool(after)))
        return Exported(place.folder, files, choice.variant.id, choice.reason, choice.left_out, notes)


Staged = tuple[tuple[Path, Place], ...]


def _staged_companions(
    facts: Facts, manifest: Manifest, options: Options, labels: bytes | None, *, place: Place, folder: Path
) -> tuple[Staged, Staged]:
    """What is published before the model, and after it; of its version."""
    staged = []
    for companion in companions(facts, manifest, options, labels):
        repository = place.folder.parent
        where = find_place(repository, companion.name, version=place.version, replace=options.replace)
        check_shared(where, companion.shared)
        write_companion(companion, folder / companion.name, place.version)
        staged.append((folder / companion.name, where))
    return tuple(staged[:1]), tuple(staged[1:])


def _ensemble_notes(facts: Facts, ensemble: bool) -> tuple[str, ...]:
    if not ensemble:
        return ()
    return (
        f"'{facts.name}{ENSEMBLE}' takes raw pixels or samples, '{facts.name}' its own inputs: the server needs its "
        "Python backend, with numpy; --no-preprocessing leaves the ensemble out",
    )


def _facts(
    model: Path, bundle: Bundle, variant: Variant, options: Options, *, name: str, labelled: str | None
) -> Facts:
    signature = read_signature(model, variant, bundle.manifest)
    return Facts(
        name=name,
        format=variant.format,
        precision=variant.precision,
        signature=signature,
        max_batch_size=max_batch_size(variant, signature, options),
        labelled=labelled,
        samples=warmup_samples(signature, read_golden(bundle), where=bundle.path.name),
    )


def _write_beside(staged: Path, shared: Mapping[str, bytes], samples: Sequence[Sample]) -> None:
    """What stands beside the version folder."""
    for name, content in shared.items():
        (staged / name).write_bytes(content)
    (staged / FOLDER).mkdir()
    for sample in samples:
        (staged / FOLDER / sample.file).write_bytes(sample.values.tobytes())


def _notes(variant: Variant, facts: Facts) -> tuple[str, ...]:
    notes = (_PLAN_NOTE,) if variant.format == PLAN else ()
    if facts.max_batch_size == NO_BATCHING:
        return (*notes, f"'{variant.id}' has a fixed batch: Triton sends its requests one by one")
    return notes


def _labels(manifest: Manifest, where: str) -> tuple[bytes | None, tuple[str, ...]]:
    """The file of labels, one a line, and a note when they do not fit the first output, whose classes they name."""
    labels, scores = manifest.labels, manifest.outputs[0]
    if labels is None:
        return None, ()
    if scores.shape[1:] != (len(labels),):
        return None, (f"labels left out: there are {len(labels)}, and output {scores} is not that many scores",)
    broken = next((label for label in labels if label.splitlines() not in ([label], [])), None)
    if broken is not None:
        raise ConversionError(f"{where}: label {broken!r} holds a line break, and Triton reads one label a line")
    return "".join(f"{label}\n" for label in labels).encode(), ()


def _check_accelerator(choice: Choice, options: Options) -> None:
    if choice.variant.format != PLAN:
        return
    for flag, given in (("--tensorrt-accelerator", options.tensorrt_accelerator), ("--cpu", options.cpu)):
        if given:
            raise ConfigError(f"{flag} is for ONNX, and variant '{choice.variant.id}' is a plan: leave it out")
