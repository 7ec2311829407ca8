"""A file's metadata as `edgekit inspect` shows it."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.conversion import Inspection
from edgekit.metadata import ModelMetadata, TensorMetadata

_SHOWN_LABELS = 5


def lines(found: Inspection) -> list[str]:
    """One line for the model, one for each tensor; none for a file without metadata."""
    said = [] if found.metadata is None else [_card(found.metadata), *_tensors(found.metadata)]
    if found.min_runtime_version:
        said.append(f"min_runtime_version {found.min_runtime_version} (of TensorFlow)")
    return said


def _card(metadata: ModelMetadata) -> str:
    words = [
        " ".join(word for word in (metadata.name, metadata.version) if word),
        metadata.description,
        f"by {metadata.author}" if metadata.author else None,
        f"license {metadata.license}" if metadata.license else None,
    ]
    return f"metadata: {_joined(words)}"


def _tensors(metadata: ModelMetadata) -> Iterator[str]:
    for role, tensors in (("input", metadata.inputs), ("output", metadata.outputs)):
        yield from (f"  {role} '{tensor.name}': {_tensor(tensor)}" for tensor in tensors)


def _tensor(tensor: TensorMetadata) -> str:
    words = [
        _content(tensor),
        f"axes {', '.join(tensor.dimension_names)}" if tensor.dimension_names else None,
        f"(x - {_numbers(tensor.mean)}) / {_numbers(tensor.std)}" if tensor.mean and tensor.std else None,
        f"values {_numbers(tensor.least)} to {_numbers(tensor.largest)}" if tensor.least and tensor.largest else None,
        f"{len(tensor.labels)} labels ({_some(tensor.labels)})" if tensor.labels else None,
        tensor.description,
    ]
    return _joined(words)


def _content(tensor: TensorMetadata) -> str | None:
    if tensor.image is None:
        return tensor.content
    size = "" if tensor.image.size is None else f" {tensor.image.size[0]} × {tensor.image.size[1]}"
    return f"{tensor.content} {tensor.image.color}{size}"


def _joined(words: list[str | None]) -> str:
    """The words that there are; a text of several lines becomes one."""
    return "; ".join(" ".join(word.split()) for word in words if word)


def _numbers(values: tuple[float, ...]) -> str:
    shown = ", ".join(f"{value:g}" for value in values)
    return shown if len(values) == 1 else f"({shown})"


def _some(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:_SHOWN_LABELS]) + (", …" if len(labels) > _SHOWN_LABELS else "")
