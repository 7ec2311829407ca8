from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgekit.profiles import target_names

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
