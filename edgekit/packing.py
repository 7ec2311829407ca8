"""From measured variants to a bundle: golden vectors, manifest, one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgekit.bundle import Bundle, write_bundle
from edgekit.data import Data
from edgekit.files import sha256_file
from edgekit.loading import FloatModel
from edgekit.manifest import FORMAT_VERSION, Golden, Input, Language, Manifest, Member, Provenance
from edgekit.measuring import MeasuredVariant
from edgekit.runtime.golden import GoldenVectors, write_golden

GOLDEN_MEMBER = "golden.npz"
TOOLS = (
    *("edgekit", "keras", "tensorflow", "litert-quantizer", "ai-edge-litert"),
    *("onnx", "tf2onnx", "onnxruntime", "numpy"),
)


def pack(
    output: Path,
    variants: Sequence[MeasuredVariant],
    golden: GoldenVectors,
    *,
    identity: tuple[str, str],
    model: FloatModel,
    inputs: tuple[Input, ...],
    labels: Sequence[str] | None,
    provenance: Provenance,
    language: Language | None = None,
    texts: Mapping[str, Path] | None = None,
) -> Manifest:
    """Write the bundle, whole or not at all, and return its manifest; `identity` is (name, version).

    `texts` are the files of the members that `language` names. Golden vectors are written beside `output`.
    Raises OutputError.
    """
    vectors = output.with_name(GOLDEN_MEMBER)
    write_golden(vectors, golden.inputs, golden.outputs)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=identity[0],
        version=identity[1],
        inputs=inputs,
        outputs=model.outputs,
        variants=tuple(item.variant for item in variants),
        golden=Golden(
            Member(GOLDEN_MEMBER, sha256_file(vectors), vectors.stat().st_size),
            samples=len(next(iter(golden.inputs.values()))),
            steps=golden.steps,
        ),
        provenance=provenance,
        labels=None if labels is None else tuple(labels),
        language=language,
    )
    members = {item.variant.member.path: item.artifact.path for item in variants}
    write_bundle(output, manifest, {**members, GOLDEN_MEMBER: vectors, **(texts or {})})
    return manifest


def packed_bytes(bundle: Path) -> dict[str, int]:
    """What each member takes inside the bundle. Raises BundleError."""
    with Bundle.open(bundle) as opened:
        return opened.packed_bytes()


def _installed() -> Iterator[tuple[str, str]]:
    """What there is of the tools; a model that needs no Keras may be built without it."""
    for tool in TOOLS:
        with suppress(PackageNotFoundError):
            yield tool, version(tool)


def provenance(model: FloatModel, data: Mapping[str, Data]) -> Provenance:
    """The recipe, the tools' versions, and what went in."""
    origin = model.origin
    return Provenance(
        recipe=origin.recipe if origin else (),
        tools=dict(_installed()),
        model_sha256=origin.sha256 if origin else model.sha256(),
        data_sha256={role: samples.sha256() for role, samples in data.items()},
    )
