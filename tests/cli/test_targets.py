from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.profiles import target_names
from edgekit.tensorrt.recipe import Recipe
from tests.tiny_models import Part, float_onnx, pack

Run = Callable[..., Any]


def test_all_targets_are_listed(edgekit: Run) -> None:
    assert [target["name"] for target in edgekit("targets", "--json").json["targets"]] == list(target_names())
    text = edgekit("targets").stdout
    assert all(name in text for name in target_names())


def test_one_target_is_shown(edgekit: Run) -> None:
    target = edgekit("targets", "jetson-orin-nano", "--json").json
    assert (target["name"], target["formats"], target["checkers"]) == ("jetson-orin-nano", ["onnx"], ["tensorrt"])
    assert "formats: onnx\n" in edgekit("targets", "jetson-orin-nano").stdout


def test_an_unknown_target_gets_a_suggestion(edgekit: Run) -> None:
    ended = edgekit("targets", "jetson-orin-nan")
    assert ended.exit_code == 2
    assert ended.stderr == "error: unknown target 'jetson-orin-nan'; did you mean 'jetson-orin-nano'?\n"


FLEET = """\
[[board]]
name = "arms"
jetpack = "6.2"
count = 12

[[board]]
name = "old"
jetpack = "5.1"
"""


@pytest.fixture
def jetsons(tmp_path: Path) -> Path:
    return pack(tmp_path, (Part("onnx", "int8", float_onnx(), "onnxruntime", recipe=Recipe()),))


def test_a_fleet_with_a_board_that_is_refused(edgekit: Run, jetsons: Path, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET)
    argv = ("targets", "plan", jetsons, "--fleet", tmp_path / "fleet.toml")
    ended = edgekit(*argv)
    assert ended.exit_code == 1
    lines = ended.stdout.splitlines()
    assert lines[2].split() == ["arms", "12", "6.2", "10.3", "SM87", "onnx-int8", "int8"]
    assert lines[3].split() == ["old", "1", "5.1", "8.5.2", "–", "refused", "–"]
    assert lines[4].startswith("arms: builds the engine of onnx-int8.onnx (")
    assert (
        lines[5] == "old: REFUSED: JetPack 5.1 has TensorRT 8.5.2, older than 10.3: update it to JetPack 6.1 or newer"
    )
    plan = edgekit(*argv, "--json").json
    assert (plan["bundle"], plan["refused"], len(plan["boards"])) == ("tiny 1.0.0", 1, 2)
    assert plan["boards"][0]["engine"] == "tensorrt 10.3"


def test_a_fleet_of_which_every_board_runs(edgekit: Run, jetsons: Path, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET.replace("5.1", "6.1"))
    ended = edgekit("targets", "plan", jetsons, "--fleet", tmp_path / "fleet.toml", "--json")
    assert (ended.exit_code, ended.json["refused"]) == (0, 0)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("plan",), "a plan needs both: edgekit targets plan BUNDLE --fleet FLEET.toml"),
        (("plan", "x.edgekit"), "a plan needs both"),
        (("local", "x.edgekit"), "BUNDLE and --fleet belong to edgekit targets plan"),
        (("--fleet", "x.toml"), "BUNDLE and --fleet belong to edgekit targets plan"),
    ],
)
def test_half_a_plan(edgekit: Run, argv: tuple[str, ...], message: str) -> None:
    ended = edgekit("targets", *argv)
    assert ended.exit_code == 2
    assert message in ended.stderr
