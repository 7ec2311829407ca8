"""The TensorRT recipe of an ONNX variant: what its targets say, under the names that its file has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgekit.errors import ConfigError, did_you_mean
from edgekit.manifest import Binding
from edgekit.profiles import DeviceProfile, load_target
from edgekit.tensorrt.recipe import Recipe
from edgekit.tensors import TensorSpec

BUILT_FROM = "onnx"  # the format that a device builds its engine from

Recipes = Mapping[str, Recipe]  # by target, instead of its profile's


def check_targets(recipes: Recipes, targets: Sequence[str]) -> None:
    """Raise ConfigError on a recipe for a target that is not built, or that takes no ONNX."""
    for name in recipes:
        if name not in targets:
            raise ConfigError(f"a TensorRT recipe for '{name}', which is no target here{did_you_mean(name, targets)}")
        if BUILT_FROM not in load_target(name).formats:
            raise ConfigError(f"target '{name}' takes no ONNX, from which TensorRT builds: leave out its recipe")


def shared_recipe(variant: str, format_name: str, profiles: Sequence[DeviceProfile], given: Recipes) -> Recipe | None:
    """The one recipe of a variant's targets; None where none of them builds engines.

    Raises ConfigError when two of them differ: a variant carries one.
    """
    if format_name != BUILT_FROM:
        return None
    said = {profile.name: given.get(profile.name, profile.tensorrt) for profile in profiles}
    recipes = {name: recipe for name, recipe in said.items() if recipe is not None}
    first, *others = recipes or [""]
    for name in others:
        if recipes[name] != recipes[first]:
            raise ConfigError(
                f"targets '{first}' and '{name}' share {variant} and differ in [targets.NAME.tensorrt]: make both "
                "equal, or build a bundle for each"
            )
    return recipes.get(first)


def check_inputs(recipe: Recipe, inputs: Sequence[TensorSpec]) -> None:
    """Raise ConfigError unless the profiles name inputs of the model, each in its rank."""
    ranks = {spec.name: len(spec.shape) for spec in inputs}
    for profile in recipe.profiles:
        for name, shapes in profile.items():
            if name not in ranks:
                raise ConfigError(
                    f"a TensorRT profile names '{name}', no input of the model{did_you_mean(name, ranks)}"
                )
            if len(shapes.opt) != ranks[name]:
                raise ConfigError(
                    f"a TensorRT profile gives '{name}' {len(shapes.opt)} sizes, expected {ranks[name]}, batch first"
                )


def for_file(recipe: Recipe | None, inputs: Sequence[Binding]) -> Recipe | None:
    """The recipe with the file's names of its inputs instead of those of Keras."""
    if recipe is None:
        return None
    tensors = {binding.name: binding.tensor for binding in inputs}
    profiles = tuple({tensors[name]: shapes for name, shapes in profile.items()} for profile in recipe.profiles)
    return replace(recipe, profiles=profiles)
