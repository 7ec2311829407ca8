"""docs/ci: the pipelines parse, and every edgekit command in them is one that edgekit takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli import _parse
from edgekit.errors import ConfigError

yaml = pytest.importorskip("yaml", reason='PyYAML comes with pip install -e ".[dev]"')

FOLDER = Path(__file__).parents[1] / "docs" / "ci"
RECIPES = {path.stem: path for path in sorted(FOLDER.glob("*.yml"))}
_ENDS = {"||", "&&", ";", "|", ">", ">>"}


def scripts(recipe: Any) -> Iterator[str]:
    """What the runner's shell is given, of GitHub's `run` and GitLab's scripts."""
    if isinstance(recipe, dict):
        for key, value in recipe.items():
            if key in ("run", "script", "before_script", "after_script"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from scripts(value)
    elif isinstance(recipe, list):
        for item in recipe:
            yield from scripts(item)


def commands(script: str) -> Iterator[list[str]]:
    """The arguments of every call of edgekit, also of those that `sh -c` makes."""
    words = shlex.split(script.replace("$(", " ; ").replace(")\n", " ;\n").rstrip(")"))
    for start, word in enumerate(words):
        if word == "edgekit" or word.endswith("/bin/edgekit"):
            end = next((at for at in range(start, len(words)) if words[at] in _ENDS), len(words))
            yield words[start + 1 : end]
        elif "edgekit " in word:
            yield from commands(word)


def calls(path: Path) -> list[list[str]]:
    lines = (line for script in scripts(yaml.safe_load(path.read_text())) for line in _lines(script))
    return [argv for line in lines for argv in commands(line)]


def _lines(script: str) -> list[str]:
    """One for each command; what stands in quotes over several lines stays one."""
    quoted = re.sub(r"'[^']*'", lambda found: " ".join(found.group().split()), script)
    return quoted.splitlines()


@pytest.mark.parametrize("name", RECIPES)
def test_every_command_is_one_that_edgekit_takes(name: str) -> None:
    found = calls(RECIPES[name])
    for argv in found:
        assert _parse(argv).verb == argv[0]
    assert {argv[0] for argv in found} == {"build", "board", "test", "lease", "history"}
    tests = [argv for argv in found if argv[0] == "test"]
    assert any("--baseline" in argv for argv in tests), "the gate, inside of a lease"
    assert all("--markdown" in argv for argv in tests)


def test_a_flag_that_is_not_there_is_found() -> None:
    found = list(commands("edgekit lease --device local: -- sh -c 'edgekit test x.edgekit' || code=$?"))
    assert [argv[0] for argv in found] == ["lease", "test"]
    with pytest.raises(ConfigError, match="--no-such-flag"):
        _parse(next(commands("url=$(edgekit test x.edgekit --no-such-flag)")))


@pytest.mark.parametrize("name", RECIPES)
def test_results_come_out_and_devices_are_leased(name: str) -> None:
    text = RECIPES[name].read_text()
    assert "--junit" in text
    assert "exit_codes: 3" in text or '"$code" -eq 3' in text
    assert "EDGEKIT_DEVICE" in text
