from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

import edgekit
import edgekit.runtime


def test_the_version_is_that_of_the_package() -> None:
    pyproject = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
    assert edgekit.__version__ == pyproject["project"]["version"]


def test_importing_edgekit_loads_nothing_heavy() -> None:
    code = (
        "import sys, edgekit; edgekit.EdgekitError, edgekit.__version__;"
        "print({'numpy', 'tensorflow', 'keras', 'onnx', 'argparse', 'zipfile'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_root_names_load_on_first_use() -> None:
    assert edgekit.open_bundle is edgekit.runtime.open_bundle
    assert edgekit.open_bundle is edgekit.runtime.open_bundle
    assert set(edgekit.__all__) <= set(dir(edgekit))


def test_an_unknown_root_name() -> None:
    with pytest.raises(AttributeError, match=r"module 'edgekit' has no attribute 'biuld'"):
        edgekit.biuld  # noqa: B018


def test_python_m_edgekit_is_the_command_line() -> None:
    ended = subprocess.run([sys.executable, "-m", "edgekit", "nonsense"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: argument VERB")
