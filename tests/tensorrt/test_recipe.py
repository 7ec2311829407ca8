"""Recipes of TensorRT engines are read strictly."""

from __future__ import annotations

import pytest

from edgekit.errors import ConfigError
from edgekit.strict import parse
from edgekit.tensorrt.recipe import Recipe, Shapes


def test_a_recipe_is_read_from_a_table() -> None:
    table = {"profiles": [{"image": {"min": [1, 8], "opt": [4, 8], "max": [8, 8]}}], "optimization_level": 3}
    assert parse(Recipe, table, where="x.toml") == Recipe(
        profiles=({"image": Shapes((1, 8), (4, 8), (8, 8))},), optimization_level=3
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"optimization_level": 6}, "x.toml: optimization_level is 6, expected 0 to 5"),
        ({"workspace_bytes": 0}, "x.toml: workspace_bytes is 0, expected at least 1"),
        ({"dla_core": -1}, "x.toml: dla_core is -1, expected 0 or more"),
        ({"gpu_fallback": False}, "x.toml: gpu_fallback is off and no dla_core is given: it is for DLA cores alone"),
        ({"profiles": [{"image": {"min": [1], "opt": [1, 2], "max": [1]}}]}, "differ in rank"),
        ({"profiles": [{"image": {"min": [4], "opt": [2], "max": [8]}}]}, "expected 0 < min <= opt <= max"),
        ({"hardware_compatibility": "all"}, "hardware_compatibility is 'all'"),
        ({"fp16": True}, "unknown key 'fp16'"),
    ],
)
def test_a_wrong_recipe(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=r"x\.toml") as caught:
        parse(Recipe, table, where="x.toml")
    assert message in str(caught.value)
