"""What a converted file says of itself to the app that opens it: a model card, and facts of each input and output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from edgekit.errors import ConfigError, did_you_mean
from edgekit.manifest import Input
from edgekit.preprocessing.declared import Picture, check_normalization, listed
from edgekit.strict import parse
from edgekit.tensors import TensorSpec, format_shape

FORMATS = ("tflite",)  # that metadata can be embedded in

_COLORS = {1: "GRAYSCALE", 3: "RGB"}  # by number of channels
_IMAGE_DTYPES = ("float32", "uint8")
_LARGEST_PIXEL = 255
_SLACK = 0.05  # of the span of normalized pixels: resizing with a cubic filter overshoots


@dataclass(frozen=True)
class InputSettings:
    """`[metadata.inputs.NAME]`: what the app must know and no tool can see."""

    description: str | None = None
    content: Literal["image", "feature"] | None = None  # default: told from the shape
    mean: tuple[float, ...] | None = None  # the model takes (x - mean) / std; one number, or one for each channel
    std: tuple[float, ...] | None = None
    dimension_names: tuple[str, ...] | None = None  # one for each axis, the batch first

    def __post_init__(self) -> None:
        check_normalization(self.mean, self.std, where="metadata")


@dataclass(frozen=True)
class OutputSettings:
    """`[metadata.outputs.NAME]`."""

    description: str | None = None
    labels: str | None = None  # a file with one name a line for the last axis
    dimension_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class MetadataSettings:
    """`[metadata]`: its presence asks for metadata in the files of formats that have a place for it."""

    name: str | None = None  # default: the bundle's
    version: str | None = None
    description: str | None = None
    author: str | None = None
    license: str | None = None
    inputs: Mapping[str, InputSettings] = field(default_factory=dict)  # by Keras name
    outputs: Mapping[str, OutputSettings] = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    """What an image tensor holds."""

    color: str  # "RGB" or "GRAYSCALE"; "UNKNOWN" only in files of others
    size: tuple[int, int] | None  # height, width; None where the model takes any


@dataclass(frozen=True)
class TensorMetadata:
    """One input or output, by its Keras name."""

    name: str | None  # None only in files of others, like every other absent field
    description: str | None = None
    content: str | None = None  # "image", "feature"; in files of others also "bounding-box"
    image: Image | None = None
    dimension_names: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None  # the tensor holds (x - mean) / std before any quantization
    std: tuple[float, ...] | None = None
    least: tuple[float, ...] | None = None  # of the values in representative data, one or one for each channel
    largest: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None  # names along the last axis


@dataclass(frozen=True)
class ModelMetadata:
    """A model card and its tensors."""

    name: str | None
    version: str | None
    description: str | None
    author: str | None
    license: str | None
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


def metadata_settings(given: MetadataSettings | Mapping[str, object] | None) -> MetadataSettings | None:
    """Settings, or a table as in `[metadata]`, as a value. Raises ConfigError."""
    if given is None or isinstance(given, MetadataSettings):
        return given
    return parse(MetadataSettings, given, where="metadata")


def located_metadata(settings: MetadataSettings | None, folder: Path) -> MetadataSettings | None:
    """The settings with the paths of label files made relative to `folder`."""
    if settings is None:
        return None
    outputs = {
        name: output if output.labels is None else replace(output, labels=str(folder / output.labels))
        for name, output in settings.outputs.items()
    }
    return replace(settings, outputs=outputs)


def check_formats(settings: MetadataSettings | None, formats: Iterable[str]) -> None:
    """Raise ConfigError when metadata is asked for and none of a build's formats has a place for it."""
    if settings is not None and not set(FORMATS).intersection(formats):
        raise ConfigError(
            f"[metadata]: no target of this build takes {' or '.join(FORMATS)}, which holds it; leave it out"
        )


def describe_model(
    settings: MetadataSettings,
    *,
    identity: tuple[str, str],
    inputs: Iterable[Input],
    outputs: Iterable[TensorSpec],
    labels: tuple[str, ...] | None,
) -> ModelMetadata:
    """The metadata of a model with these inputs and outputs; `identity` is (name, version).

    `labels` name the classes of the first output. An input (batch, height, width, 1 or 3) of float32 or uint8 is an
    image unless its settings say otherwise. Raises ConfigError on settings that do not fit the model.
    """
    takes, gives = tuple(inputs), tuple(outputs)
    _check_names("inputs", settings.inputs, [item.name for item in takes])
    _check_names("outputs", settings.outputs, [spec.name for spec in gives])
    return ModelMetadata(
        name=settings.name or identity[0],
        version=settings.version or identity[1],
        description=settings.description,
        author=settings.author,
        license=settings.license,
        inputs=tuple(_input(item, settings.inputs.get(item.name, InputSettings())) for item in takes),
        outputs=tuple(
            _output(spec, settings.outputs.get(spec.name, OutputSettings()), labels if index == 0 else None)
            for index, spec in enumerate(gives)
        ),
    )


def with_states(metadata: ModelMetadata, states: Iterable[tuple[str, str]]) -> ModelMetadata:
    """The same for a file that takes and gives its states: names of each as an input and as an output."""
    takes, gives = [], []
    for taken, given in states:
        takes.append(TensorMetadata(taken, f"state: zeros first, then what '{given}' gave", "feature"))
        gives.append(TensorMetadata(given, f"state: '{taken}' of the next call", "feature"))
    return replace(metadata, inputs=(*metadata.inputs, *takes), outputs=(*metadata.outputs, *gives))


def read_labels(path: Path) -> tuple[str, ...]:
    """One name a line, UTF-8. Raises ConfigError."""
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except OSError as problem:
        raise ConfigError(f"cannot read labels {path}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise ConfigError(
            f"cannot read labels {path}: byte {problem.start} is not UTF-8; save it as UTF-8"
        ) from problem


def _check_names(kind: str, given: Iterable[str], known: list[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"[metadata.{kind}.{name}]: the model has no such {kind[:-1]}{did_you_mean(name, known)}")


def _input(item: Input, settings: InputSettings) -> TensorMetadata:
    spec, where = item.spec, f"[metadata.inputs.{item.name}]"
    picture = item.preprocessing.picture if item.preprocessing else None
    settings = _with_declared(settings, picture, where)
    image = _image(spec, settings.content, where)
    _check_axes(spec, settings.dimension_names, where)
    for what, values in (("mean", settings.mean), ("std", settings.std)):
        if values is not None and len(values) not in (1, spec.shape[-1]):
            raise ConfigError(
                f"{where}: {what} has {len(values)} numbers, expected 1 or one for each channel of {spec}"
            )
    if image is not None and item.range is not None:
        check_pixels(settings.mean, settings.std, item.range, where)
    return TensorMetadata(
        name=item.name,
        description=settings.description,
        content="feature" if image is None else "image",
        image=image,
        dimension_names=settings.dimension_names,
        mean=_floats(settings.mean),
        std=_floats(settings.std),
        least=None if item.range is None else item.range[:1],
        largest=None if item.range is None else item.range[1:],
    )


def _image(spec: TensorSpec, content: str | None, where: str) -> Image | None:
    shape = spec.shape
    fits = len(shape) == 4 and shape[-1] in _COLORS and spec.dtype in _IMAGE_DTYPES
    if content == "image" and not fits:
        raise ConfigError(
            f"{where}: content is 'image', but the input is {spec}, expected (batch, height, width, 1 or 3) of "
            f"{' or '.join(_IMAGE_DTYPES)}; leave content out, or write 'feature'"
        )
    if content == "feature" or not fits:
        return None
    _, height, width, channels = shape
    size = None if height is None or width is None else (height, width)
    return Image(_COLORS[channels or 0], size)


def _with_declared(settings: InputSettings, picture: Picture | None, where: str) -> InputSettings:
    """The settings with the mean and std of a declared preprocessing; both may be given where they are the same."""
    if picture is None or picture.layout == "channels_first":
        return settings
    if picture.color == "BGR" and settings.content is None:
        settings = replace(settings, content="feature")  # the schema has no word for it
    if settings.mean is None:
        return replace(settings, mean=picture.mean, std=picture.std)
    if (settings.mean, settings.std) != (picture.mean, picture.std):
        raise ConfigError(
            f"{where}: mean {listed(settings.mean)} and std {listed(settings.std)}, but the preprocessing says mean "
            f"{listed(picture.mean) or 'none'} and std {listed(picture.std) or 'none'}: leave them out here"
        )
    return settings


def check_pixels(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, measured: tuple[float, float], where: str
) -> None:
    """Raise ConfigError when bytes normalized like this cannot be what the representative data holds."""
    if mean is None or std is None:
        return
    count = max(len(mean), len(std))
    pairs = zip(mean * (count // len(mean)), std * (count // len(std)), strict=True)
    ends = [(pixel - mean) / std for mean, std in pairs for pixel in (0, _LARGEST_PIXEL)]
    low, high = min(ends), max(ends)
    slack = _SLACK * (high - low)
    if measured[0] < low - slack or measured[1] > high + slack:
        raise ConfigError(
            f"{where}: mean {listed(mean)} and std {listed(std)} turn pixels from 0 to "
            f"{_LARGEST_PIXEL} into {low:.4g} to {high:.4g}, but the calibration data holds {measured[0]:.4g} to "
            f"{measured[1]:.4g}: give the numbers that the data was normalized with (0 and 1 for none)"
        )


def _output(spec: TensorSpec, settings: OutputSettings, labels: tuple[str, ...] | None) -> TensorMetadata:
    where = f"[metadata.outputs.{spec.name}]"
    _check_axes(spec, settings.dimension_names, where)
    if settings.labels is not None and labels is not None:
        raise ConfigError(f"{where}: labels are given twice: leave out the model's own labels, or these")
    names = read_labels(Path(settings.labels)) if settings.labels is not None else labels
    if names is not None:
        _check_labels(names, spec, where if settings.labels is None else f"{where}: {settings.labels}")
    return TensorMetadata(
        name=spec.name,
        description=settings.description,
        content="feature",
        dimension_names=settings.dimension_names,
        labels=names,
    )


def _check_labels(names: tuple[str, ...], spec: TensorSpec, where: str) -> None:
    """Android's FileUtil.loadLabels splits at line ends and leaves blank lines out, which would shift the names."""
    if len(names) != spec.shape[-1]:
        raise ConfigError(
            f"{where}: {len(names)} labels, expected {spec.shape[-1]}, one for each entry of the last axis of {spec}"
        )
    for number, name in enumerate(names, start=1):
        if not name.strip() or len(name.splitlines()) > 1:
            raise ConfigError(f"{where}: label {number} is {name!r}, expected a name in one line")


def _check_axes(spec: TensorSpec, names: tuple[str, ...] | None, where: str) -> None:
    if names is not None and len(names) != len(spec.shape):
        raise ConfigError(
            f"{where}: {len(names)} dimension_names, expected {len(spec.shape)}, one for each axis of "
            f"{format_shape(spec.shape)}"
        )


def _floats(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(map(float, values))
