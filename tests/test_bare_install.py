"""The wheel in a fresh environment that has numpy and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import IMAGES, pack

ROOT = Path(__file__).parents[1]
HEAVY = ("tensorflow", "tf_keras", "keras", "onnx", "onnxruntime", "ai_edge_litert", "pytest", "rich", "matplotlib")


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the wheel installed, and this environment's numpy by a link."""
    folder = tmp_path_factory.mktemp("bare")
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run([sys.executable, *build], check=True, capture_output=True)
    (wheel,) = folder.glob("edgekit-*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    site_packages = next((folder / "env" / "lib").glob("python*")) / "site-packages"
    pip = ["-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, *pip], check=True, capture_output=True)
    numpy = Path(np.__file__).parent
    for package in (numpy, *numpy.parent.glob("numpy.libs")):
        (site_packages / package.name).symlink_to(package)
    return python


def run(python: Path, *argv: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(word) for word in (python, *argv)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_device_side_imports_on_numpy_alone(bare_python: Path, tmp_path: Path) -> None:
    code = (
        "import sys, edgekit, edgekit.runtime, edgekit.bundle, edgekit.runtime.__main__, edgekit.devices.deploy\n"
        "import edgekit.cli.run, edgekit.cli.bench\n"
        f"print(edgekit.__file__, sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    ended = run(bare_python, "-c", code, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert str(bare_python.parents[1]) in ended.stdout
    assert ended.stdout.strip().endswith("[]")


def test_nothing_heavy_is_there_to_import(bare_python: Path, tmp_path: Path) -> None:
    code = f"import importlib.util as u; print([name for name in {HEAVY!r} if u.find_spec(name)])"
    assert run(bare_python, "-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_without_an_engine_it_says_how_to_get_one(bare_python: Path, tmp_path: Path) -> None:
    bundle = pack(tmp_path)
    np.savez(tmp_path / "in.npz", image=IMAGES)
    edgekit = bare_python.with_name("edgekit")
    ended = run(edgekit, "run", bundle, "--input", "in.npz", "-o", "out.npz", cwd=tmp_path)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "engine 'litert' is not installed: pip install" in ended.stderr
    assert not (tmp_path / "out.npz").exists()


def test_it_verifies_a_bundle_on_numpy_alone(bare_python: Path, tmp_path: Path) -> None:
    ended = run(bare_python, "-m", "edgekit.runtime", "verify", pack(tmp_path), cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert '"event": "result"' in ended.stdout
