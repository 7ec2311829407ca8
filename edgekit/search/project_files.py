"""A recipe of a search as an ordinary project: the value that a build takes, and the file that says the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path

from edgekit.compression.steps import Step, step_name
from edgekit.files import write_text
from edgekit.planning import plan
from edgekit.project import Project, load_project
from edgekit.recipe import read_toml
from edgekit.search.space import Recipe
from edgekit.toml_text import toml_text

Tables = Mapping[str, Mapping[str, object]]


def with_recipe(project: Project, target: str, recipe: Recipe) -> Project:
    """The project with this recipe in the place of its own, and this target alone."""
    targets = {target: (recipe.precision,)}
    recipes = {name: item for name, item in project.tensorrt.items() if name == target}
    formats = plan(targets, recipes=recipes).formats
    convert = converted(project.convert, formats, recipe.kept)
    return replace(project, recipe=recipe.steps, targets=targets, tensorrt=recipes, convert=convert)


def converted(given: Tables, formats: tuple[str, ...], kept: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """The `[convert]` tables of these formats, with layers kept at other precisions beside what the user set."""
    tables = {name: dict(given[name]) for name in formats if name in given}
    if kept:
        for name in formats:
            table = tables.setdefault(name, {})
            if name == "tflite":
                table["layers"] = {**_mapping(table.get("layers")), **kept}
            else:  # the others keep layers in float alone
                wide = [pattern for pattern, precision in kept.items() if precision == "fp32"]
                table["keep_float"] = [*_list(table.get("keep_float")), *wide]
    return {name: table for name, table in tables.items() if table}


def write_found(source: Path, found: Path, target: str, recipe: Recipe) -> Project:
    """Write the project file `found` beside `source`, from which it has all else; the project that it is.

    Raises OutputError.
    """
    raw = read_toml(source, what="project file")
    project = with_recipe(load_project(source), target, recipe)
    own = raw["targets"]
    assert isinstance(own, Mapping)  # it was parsed before
    content = {key: value for key, value in raw.items() if key not in ("compress", "convert", "targets", "search")}
    content["compress"] = [step_settings(step) for step in recipe.steps]
    content["targets"] = {target: {**_mapping(own[target]), "precision": [recipe.precision]}}
    content["convert"] = project.convert
    write_text(found, toml_text({key: value for key, value in content.items() if value != [] and value != {}}))
    return load_project(found)


def step_settings(step: Step) -> dict[str, object]:
    """The step's TOML table, without what is at its default."""
    table: dict[str, object] = {"step": step_name(step)}
    for field in fields(step):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        value = getattr(step, field.name)
        if value != default:
            table[field.name] = value
    return table


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []
