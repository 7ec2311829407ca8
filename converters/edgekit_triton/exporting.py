"""The exporter: one variant of a bundle as one version of a model in a Triton model repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.bundle_exporters import Exported
from edgekit.errors import ConfigError, ConversionError
from edgekit.manifest import Manifest
from edgekit.runtime.golden import read_golden
from edgekit.strict import parse
from edgekit_triton.batching import NO_BATCHING, max_batch_size
from edgekit_triton.choosing import PLAN, Choice, choose
from edgekit_triton.config import CONFIG_FILE, LABELS_FILE, MODEL_FILES, Facts, config_text
from edgekit_triton.options import Options
from edgekit_triton.repository import Place, check_shared, find_place, publish_model, staging
from edgekit_triton.signature import read_signature
from edgekit_triton.warmup import FOLDER, warmup_samples

_PLAN_NOTE = (
    "a plan runs on the GPU and the TensorRT that it was built with; nothing of it could be checked here: its shapes "
    "are the manifest's"
)


@dataclass(frozen=True)
class TritonExporter:
    """Writes `NAME/config.pbtxt`, `NAME/VERSION/model.onnx` (or `model.plan`), labels and warm-up files."""

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
        with staging(place) as folder:
            staged = folder / place.folder.name
            model = staged / str(place.version) / MODEL_FILES[choice.variant.format]
            model.parent.mkdir(parents=True)
            model.write_bytes(bundle.read(choice.variant.member.path))
            notes = _write_around(staged, model, bundle, choice, place, options)
            files = publish_model(staged, place)
        return Exported(place.folder, files, choice.variant.id, choice.reason, choice.left_out, notes)


def _write_around(
    staged: Path, model: Path, bundle: Bundle, choice: Choice, place: Place, options: Options
) -> tuple[str, ...]:
    """Write what belongs to a model file; returns what the user must know."""
    variant, where = choice.variant, bundle.path.name
    signature = read_signature(model, variant, bundle.manifest)
    size = max_batch_size(variant, signature, options)
    samples = warmup_samples(signature, read_golden(bundle), where=where)
    labels, notes = _labels(bundle.manifest, where)
    facts = Facts(
        name=place.folder.name,
        format=variant.format,
        precision=variant.precision,
        signature=signature,
        max_batch_size=size,
        labelled=None if labels is None else bundle.manifest.outputs[0].name,
        samples=samples,
    )
    shared = {CONFIG_FILE: config_text(facts, options).encode()}
    if labels is not None:
        shared[LABELS_FILE] = labels
    check_shared(place, shared)
    (staged / FOLDER).mkdir()
    for sample in samples:
        (staged / FOLDER / sample.file).write_bytes(sample.values.tobytes())
    for name, content in shared.items():
        (staged / name).write_bytes(content)
    if variant.format == PLAN:
        notes = (*notes, _PLAN_NOTE)
    if size == NO_BATCHING:
        notes = (*notes, f"'{variant.id}' has a fixed batch: Triton sends its requests one by one")
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
