"""The demo as a newcomer runs it, and every command and line of Python in the README after it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.demos import demo_folder, edgekit, run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
VARIANTS = ["tflite-int8", "tflite-fp16", "tflite-fp32", "onnx-int8", "onnx-fp16", "onnx-fp32"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `edgekit demo -o out` was run."""
    return demo_folder(tmp_path_factory)


@pytest.fixture(scope="module")
def report(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "out" / "report.json").read_text())
    return found


def test_the_demo_reaches_what_it_promises(report: dict[str, Any]) -> None:
    assert report["model"]["float_metric"] >= 0.975
    assert [variant["id"] for variant in report["variants"]] == VARIANTS
    smallest = min((v for v in report["variants"] if v["precision"] == "int8"), key=lambda variant: variant["bytes"])
    assert smallest["ratio"] >= 10
    assert smallest["metric_drop"] <= 0.01
    parity = {entry["variant"]: entry["max_abs"] for entry in report["parity"]}
    assert parity["tflite-fp32"] <= 1e-4
    assert parity["onnx-fp32"] <= 1e-4
    assert report["budget"]["met"]
    assert all(golden["passed"] for golden in report["golden"])
    assert report["device_tests"]["failed"] == 0
    assert min(variant["samples"] for variant in report["variants"]) >= 200


def test_int8_from_the_same_trained_scales_is_as_good_in_both_formats(report: dict[str, Any]) -> None:
    drops = {variant["id"]: variant["metric_drop"] for variant in report["variants"]}
    assert abs(drops["onnx-int8"] - drops["tflite-int8"]) <= 0.003 + 1e-9


def test_the_report_page_stands_alone(home: Path) -> None:
    page = (home / "out" / "report.html").read_text(encoding="utf-8")
    assert "Within budget" in page
    assert not re.search(r'(src|href)\s*=\s*"(https?:)?//', page)
    assert all(variant in page for variant in VARIANTS)


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_knows_the_two_commands(target: str) -> None:
    assert f"make {target}" in README.split("##")[0]
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_the_readme_commands_run(home: Path) -> None:
    commands = [line for line in shell_lines(README) if line.startswith(".venv/bin/edgekit ")]
    assert len(commands) >= 9
    (recipe,) = blocks(README, "toml")
    (home / "recipe.toml").write_text(recipe, encoding="utf-8")
    for command in commands:
        words = shlex.split(command, comments=True)
        run([str(edgekit()), *words[1:]], home)


def test_the_readme_python_runs(home: Path) -> None:
    (code,) = blocks(README, "python")
    printed = run([sys.executable, "-c", code], home)
    assert "80% zero" in printed
    assert "tflite-int8" in printed
    assert (home / "out" / "python" / "digits-1.1.0.edgekit").exists()


def test_the_readme_table_names_what_the_demo_makes() -> None:
    (table,) = [block for block in blocks(README, "") if "× smaller" in block]
    assert [line.split()[0] for line in table.splitlines() if line.startswith(("tflite", "onnx"))] == VARIANTS


def blocks(text: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [content for name, content in fenced if name == language]


def shell_lines(text: str) -> list[str]:
    return [line for block in blocks(text, "sh") for line in block.splitlines() if line.strip()]
