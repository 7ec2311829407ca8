"""Inputs that leave an axis open beside the batch (the length of a sequence, the size of an image), given sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any  # Any: Keras models and tensors, which have no types

from edgekit.errors import ConfigError, ModelError, did_you_mean
from edgekit.kerases import import_keras
from edgekit.tensors import format_shape
from edgekit.wording import said

Length = int | str  # 128; "224x320" where two axes are open
Lengths = Mapping[str, Length | Sequence[Length]]  # by input name
_BETWEEN = "x"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")  # of TOML


@dataclass(frozen=True)
class Shapes:
    """What one signature of a file takes."""

    name: str  # "tokens_128"
    shapes: Mapping[str, tuple[int, ...]]  # by input name, without the batch; inputs that leave nothing open are absent


def parse_lengths(inputs: Sequence[Any], lengths: Lengths) -> tuple[Shapes, ...]:
    """The shapes for each of the given lengths; every open input needs as many. Raises ConfigError."""
    tensors = {tensor.name: tensor for tensor in inputs}
    for name in lengths:
        if name not in tensors:
            raise ConfigError(f"lengths: the model has no input '{name}'{did_you_mean(name, tensors)}")
    given = {name: _sizes(name, tensors[name].shape, _listed(length)) for name, length in lengths.items()}
    counts = {len(sizes) for sizes in given.values()}
    if len(counts) > 1:
        said_counts = ", ".join(f"{len(sizes)} of '{name}'" for name, sizes in given.items())
        raise ConfigError(f"lengths: {said_counts}: give as many for each input")
    found: list[Shapes] = []
    for number in range(counts.pop() if counts else 0):
        chosen = {name: sizes[number] for name, sizes in given.items()}
        name = "_".join(f"{name}_{_BETWEEN.join(map(str, sizes))}" for name, sizes in chosen.items())
        if any(name == other.name for other in found):
            raise ConfigError(f"lengths: {name} is given twice; leave one out")
        shapes = {name: _filled(tensors[name].shape, sizes) for name, sizes in chosen.items()}
        found.append(Shapes(name, shapes))
    return tuple(found)


def at_shapes(model: Any, chosen: Shapes, *, keep: bool = True) -> Any:
    """A Functional model with the same weights whose inputs have these shapes. Raises ModelError.

    `model` stays as it is, and its weights are copied; unless `keep`, its layers become those of the new one.
    """
    keras = import_keras()
    inputs = [
        keras.Input(
            batch_shape=(tensor.shape[0], *chosen.shapes.get(tensor.name, tensor.shape[1:])),
            dtype=tensor.dtype,
            name=tensor.name,
        )
        for tensor in model.inputs
    ]
    try:
        packed = keras.tree.pack_sequence_as(model._inputs_struct, inputs)
        if not keep:
            return keras.models.clone_model(model, packed, clone_function=lambda layer: layer)
        made = keras.models.clone_model(model, packed)
        made.set_weights(model.get_weights())
    except Exception as problem:  # Keras raises whatever its layers raise
        raise ModelError(f"'{model.name}' cannot be built for {chosen.name}: {said(problem)}") from problem
    return made


def way_out(name: str, shape: Sequence[int | None]) -> str:
    """How the user fixes the open axes of an input."""
    sizes = _BETWEEN.join(["128"] * sum(size is None for size in shape[1:]))
    value = sizes if _BETWEEN not in sizes else f'"{sizes}"'
    key = name if _BARE_KEY.fullmatch(name) else f'"{name}"'
    return f"give it a length: --length {name}={sizes}, lengths = {{ {key} = {value} }} in a project file"


def _listed(length: Length | Sequence[Length]) -> Sequence[Length]:
    return [length] if isinstance(length, int | str) else length


def _sizes(name: str, shape: Sequence[int | None], lengths: Sequence[Length]) -> list[tuple[int, ...]]:
    """Of the open axes, for each length."""
    count = sum(size is None for size in shape[1:])
    if not count:
        raise ConfigError(f"lengths: '{name}' {format_shape(tuple(shape))} leaves nothing open but the batch")
    if not lengths:
        raise ConfigError(f"lengths: none is given for '{name}'")
    found = []
    for length in lengths:
        words = str(length).split(_BETWEEN)
        if not all(word.isdecimal() and int(word) for word in words):
            raise ConfigError(f"lengths: '{name}' is {length!r}, expected a whole number from 1 on")
        if len(words) != count:
            like = _BETWEEN.join(["128"] * count)
            raise ConfigError(
                f"lengths: '{name}' is {length!r}, and {format_shape(tuple(shape))} leaves {count} sizes open: "
                f"expected {count}, like {like}"
            )
        found.append(tuple(map(int, words)))
    return found


def _filled(shape: Sequence[int | None], sizes: Sequence[int]) -> tuple[int, ...]:
    rest = iter(sizes)
    return tuple(next(rest) if size is None else size for size in shape[1:])
