"""Profiles against the inputs of a network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.errors import BuildError
from edgekit.tensorrt.recipe import Recipe, Shapes
from edgekit.tensorrt.sizes import Port, network_ports, profiles_of

IMAGE, MASK, FIXED = Port("image", (-1, 3)), Port("mask", (-1, -1)), Port("table", (4, 2))


def one(**shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]) -> Recipe:
    return Recipe(profiles=({name: Shapes(*sizes) for name, sizes in shapes.items()},))


def test_without_profiles_the_batch_goes_from_1_to_8() -> None:
    assert profiles_of(Recipe(), (IMAGE, FIXED)) == [{"image": Shapes((1, 3), (1, 3), (8, 3))}]


def test_closed_inputs_need_no_profile() -> None:
    assert profiles_of(Recipe(), (FIXED,)) == []


def test_sound_profiles_are_taken_as_they_are() -> None:
    recipe = one(image=((1, 3), (2, 3), (4, 3)), table=((4, 2), (4, 2), (4, 2)))
    assert profiles_of(recipe, (IMAGE, FIXED)) == list(recipe.profiles)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(), "input 'mask' (-1, -1) is open beyond its batch: give a profile with its min, opt and max"),
        (one(imgae=((1, 3),) * 3), "the profile names 'imgae', which is no input; did you mean 'image'?"),
        (one(image=((1, 3),) * 3), "the profile lacks input 'mask' (-1, -1): give its min, opt and max"),
        (one(image=((1, 3, 1),) * 3), "the profile: min of 'image' is (1, 3, 1) of rank 3, expected rank 2"),
        (one(image=((1, 3), (1, 3), (1, 4))), "the profile: max of 'image' is 4 in axis 1, and the model has 3 there"),
    ],
)
def test_what_tensorrt_would_not_say(recipe: Recipe, message: str) -> None:
    with pytest.raises(BuildError) as caught:
        profiles_of(recipe, (IMAGE, MASK))
    assert str(caught.value) == message


def test_of_several_profiles_the_wrong_one_is_named() -> None:
    good = {"image": Shapes((1, 3), (1, 3), (2, 3))}
    with pytest.raises(BuildError, match=r"^profile 1 lacks input 'image'"):
        profiles_of(Recipe(profiles=(good, {})), (IMAGE,))


def network(**tensor: Any) -> Any:
    given = SimpleNamespace(**{"name": "x", "shape": (-1, 3), "is_shape_tensor": False, **tensor})
    return SimpleNamespace(num_inputs=1, get_input=lambda index: given)


def test_the_ports_of_a_network() -> None:
    assert network_ports(network()) == (Port("x", (-1, 3)),)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"shape": (0, 3)}, r"^input 'x' has shape \(0, 3\), and a size of 0 holds no values$"),
        ({"is_shape_tensor": True}, "^input 'x' gives a shape at run time: make it a constant"),
    ],
)
def test_inputs_that_no_engine_takes(tensor: dict[str, Any], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        network_ports(network(**tensor))
