from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices.testing import run_device_tests


def test_the_callers_own_tests_are_left_alone(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text("raise RuntimeError('not asked for')\n")
    monkeypatch.chdir(tmp_path)
    outcome = run_device_tests(tiny_bundle, "local:", select="soak")
    assert (outcome.passed, outcome.failed, outcome.skipped) == (0, 0, 1)
