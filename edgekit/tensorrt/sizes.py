"""The sizes that an engine is built for: a recipe's profiles, held against the inputs of the parsed network.

TensorRT takes a misspelt input and a size of zero without a word, and of the rest says little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any  # Any: TensorRT's objects, which have no types

from edgekit.errors import BuildError, did_you_mean
from edgekit.tensorrt.recipe import Recipe, Shapes

MAX_BATCH = 8  # of an engine whose recipe has no profiles


@dataclass(frozen=True)
class Port:
    """One input of a network; an open size is -1."""

    name: str
    shape: tuple[int, ...]

    @property
    def is_open(self) -> bool:
        """Whether a profile must say its sizes."""
        return -1 in self.shape


def network_ports(network: Any) -> tuple[Port, ...]:
    """The inputs of a parsed network. Raises BuildError for one without values, and one that is itself a shape."""
    ports = []
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.is_shape_tensor:
            raise BuildError(f"input '{tensor.name}' gives a shape at run time: make it a constant in the ONNX file")
        ports.append(Port(tensor.name, tuple(tensor.shape)))
        if 0 in ports[-1].shape:
            raise BuildError(f"input '{tensor.name}' has shape {ports[-1].shape}, and a size of 0 holds no values")
    return tuple(ports)


def profiles_of(recipe: Recipe, ports: tuple[Port, ...]) -> list[Mapping[str, Shapes]]:
    """The profiles to build for: the recipe's, checked, or one for batches from 1 to MAX_BATCH.

    Raises BuildError for a name that is no input, an open input that a profile leaves out, a wrong rank or size, and
    an open size beside the batch that no profile says.
    """
    if not recipe.profiles:
        open_ports = {port.name: _any_batch(port) for port in ports if port.is_open}
        return [open_ports] if open_ports else []
    known = {port.name: port for port in ports}
    for number, profile in enumerate(recipe.profiles):
        where = f"profile {number}" if len(recipe.profiles) > 1 else "the profile"
        for name, shapes in profile.items():
            if name not in known:
                raise BuildError(f"{where} names '{name}', which is no input{did_you_mean(name, known)}")
            _check(known[name], shapes, where)
        for port in ports:
            if port.is_open and port.name not in profile:
                raise BuildError(f"{where} lacks input '{port.name}' {port.shape}: give its min, opt and max")
    return list(recipe.profiles)


def _any_batch(port: Port) -> Shapes:
    if -1 in port.shape[1:]:
        raise BuildError(
            f"input '{port.name}' {port.shape} is open beyond its batch: give a profile with its min, opt and max"
        )
    low, high = (tuple(size if size >= 0 else limit for size in port.shape) for limit in (1, MAX_BATCH))
    return Shapes(low, low, high)


def _check(port: Port, shapes: Shapes, where: str) -> None:
    for role, shape in _roles(shapes):
        if len(shape) != len(port.shape):
            raise BuildError(
                f"{where}: {role} of '{port.name}' is {shape} of rank {len(shape)}, expected rank {len(port.shape)}"
            )
        for axis, (given, own) in enumerate(zip(shape, port.shape, strict=True)):
            if own not in (-1, given):
                raise BuildError(
                    f"{where}: {role} of '{port.name}' is {given} in axis {axis}, and the model has {own} there"
                )


def _roles(shapes: Shapes) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from (("min", shapes.min), ("opt", shapes.opt), ("max", shapes.max))
