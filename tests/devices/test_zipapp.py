from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from edgekit.devices.zipapp import write_zipapp


def test_the_same_edgekit_gives_the_same_bytes(tmp_path: Path) -> None:
    write_zipapp(tmp_path / "a.pyz")
    write_zipapp(tmp_path / "b.pyz")
    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "b.pyz").read_bytes()


def test_it_is_small_and_holds_the_device_side_alone(tmp_path: Path) -> None:
    write_zipapp(tmp_path / "a.pyz")
    assert (tmp_path / "a.pyz").stat().st_size < 96 << 10
    with zipfile.ZipFile(tmp_path / "a.pyz") as archive:
        names = archive.namelist()
    assert "edgekit/runtime/engine_litert.py" in names
    assert not [name for name in names if name.startswith(("edgekit/cli", "edgekit/devices", "edgekit/compression"))]


def test_it_runs_from_its_own_copy_of_edgekit(tmp_path: Path) -> None:
    path = tmp_path / "runtime.pyz"
    write_zipapp(path)
    ended = subprocess.run([sys.executable, path, "probe"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["event"] == "result"
    failing = subprocess.run([sys.executable, path, "verify", "x"], capture_output=True, text=True, check=False)
    assert (failing.returncode, json.loads(failing.stdout)["type"]) == (2, "BundleError")
    code = f"import sys; sys.path.insert(0, {str(path)!r}); import edgekit.bundle; print(edgekit.bundle.__file__)"
    where = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert where.stdout.startswith(str(path))
