"""Wheels brought along, and what is said where an engine is missing."""

from __future__ import annotations

import dataclasses
import sys
import zipfile
from pathlib import Path

import pytest

from edgekit.cli import main
from edgekit.devices import deploy
from edgekit.devices.facts import DeviceFacts, PythonFacts, parse_facts
from edgekit.devices.local import LocalTransport
from edgekit.devices.remedies import what_is_missing
from edgekit.devices.transport import Transport, checked
from edgekit.devices.vendoring import choose_wheels, push_wheels
from edgekit.errors import ConfigError, EngineError
from tests.tiny_models import manifest_of, parts

BOARD = PythonFacts("3.10.12", "CPython", ("glibc", "2.35"), {})
NAMES = (
    "numpy-2.2.1-cp310-cp310-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    "numpy-2.2.6-cp310-cp310-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    "numpy-2.3.0-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    "numpy-2.2.9-cp310-cp310-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "ai_edge_litert-9.0-cp310-cp310-manylinux_2_39_aarch64.whl",
    "ai_edge_litert-2.1.0-cp310-cp310-manylinux_2_27_aarch64.whl",
    "flatbuffers-25.1-py2.py3-none-any.whl",
)


@pytest.fixture
def bare(tmp_path: Path) -> LocalTransport:
    """This machine, with a Python that sees none of its packages."""
    script = tmp_path / "bare-python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    script.chmod(0o755)
    transport = LocalTransport()
    transport.python = str(script)
    return transport


def wheel(folder: Path, version: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"carried-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("carried/__init__.py", f"WORD = {text!r}\n")
        archive.writestr(f"carried-{version}.data/purelib/beside.py", "WORD = 'beside'\n")
        archive.writestr(f"carried-{version}.dist-info/METADATA", f"Name: carried\nVersion: {version}\n")
    return path


def test_the_newest_that_fits(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).touch()
    chosen = {path.name for path in choose_wheels(tmp_path, BOARD, "aarch64")}
    assert chosen == {NAMES[1], NAMES[5], NAMES[6]}
    assert {path.name for path in choose_wheels(tmp_path, BOARD, "armv7l")} == {NAMES[6]}


def test_they_lie_side_by_side_under_their_hashes(device: Transport, tmp_path: Path) -> None:
    code = "import carried, beside; print(carried.WORD, beside.WORD)"
    folders = {}
    if device.python is None:
        with pytest.raises(ConfigError, match="has no Python to import them, and runs without; leave it out"):
            push_wheels(device, tmp_path)
        return
    for version in ("1.0", "2.0"):
        wheel(tmp_path / "wheels", version, version)  # the newest is taken
        (folders[version],) = push_wheels(device, tmp_path / "wheels")
        assert push_wheels(device, tmp_path / "wheels") == (folders[version],)
    for version, folder in folders.items():
        said = checked(device, ["env", f"PYTHONPATH={folder}", device.python, "-c", code], timeout_s=60).stdout
        assert said.split() == [version, "beside"]


def test_none_that_fits(local_device: LocalTransport, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no wheel in .* fits local:: pip download --only-binary=:all: --platform"):
        push_wheels(local_device, tmp_path)
    with pytest.raises(ConfigError, match="is no folder of wheels"):
        push_wheels(local_device, tmp_path / "none")
    (tmp_path / "not-a-wheel.whl").touch()
    with pytest.raises(ConfigError, match=r"not-a-wheel\.whl: Invalid wheel filename"):
        push_wheels(local_device, tmp_path)


def test_a_python_without_numpy_is_told_what_to_install(bare: LocalTransport, tiny_bundle: Path) -> None:
    with pytest.raises(EngineError) as caught:
        deploy(tiny_bundle, bare).golden()
    said = str(caught.value)
    assert "No module named 'numpy'" in said
    assert "lacks numpy, ai-edge-litert, onnxruntime: there, python3 -m venv ~/edgekit" in said
    assert said.index(" lacks ") < said.index("No module named"), "what to do comes first"
    assert "or bring wheels along with --vendor-wheels DIR" in said
    bare.close()


def test_the_flag(tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wheel(tmp_path / "wheels", "1.0", "1.0")
    carried = ("--vendor-wheels", str(tmp_path / "wheels"))
    assert main(["deploy", str(tiny_bundle), "--device", "local:", *carried]) == 0
    assert main(["deploy", str(tiny_bundle), "--device", "local:", "--vendor-wheels", str(tmp_path / "none")]) == 2
    assert "is no folder of wheels" in capfd.readouterr().err


class TestWords:
    manifest = manifest_of(tuple(part.variant() for part in parts()[:2]), b"")

    def facts(self, **changes: object) -> DeviceFacts:
        known = dataclasses.replace(parse_facts("@@ uname\nLinux 5.15 aarch64"), python=BOARD)
        return dataclasses.replace(known, **changes)  # type: ignore[arg-type]

    def test_jetpack_6(self) -> None:
        said = what_is_missing(self.facts(jetpack="6.2", os_id={"ID": "ubuntu", "VERSION_ID": "22.04"}), self.manifest)
        assert said is not None
        assert said.startswith("JetPack 6.2 lacks numpy, ai-edge-litert: there, python3 -m pip install numpy ai-edge")
        assert "--python-version 3.10 -d DIR numpy ai-edge-litert" in said

    def test_raspberry_pi_os(self) -> None:
        python = dataclasses.replace(BOARD, packages={"numpy": "1.24.2"})
        facts = self.facts(os="Raspberry Pi OS, Debian 12", os_id={"ID": "debian", "VERSION_ID": "12"}, python=python)
        said = what_is_missing(facts, self.manifest)
        assert said is not None
        assert said.startswith("Raspberry Pi OS, Debian 12 lacks ai-edge-litert: there, python3 -m venv ~/edgekit && ")
        assert "?python=/home/USER/edgekit/bin/python3" in said

    def test_jetpack_5(self) -> None:
        python = dataclasses.replace(BOARD, version="3.8.10")
        said = what_is_missing(self.facts(jetpack="5.1.2", python=python), self.manifest)
        assert said is not None
        assert said.startswith("JetPack 5.1.2 has Python 3.8.10, edgekit needs 3.10 or newer: JetPack 6")

    def test_an_old_glibc_gets_an_older_litert(self) -> None:
        python = dataclasses.replace(BOARD, libc=("glibc", "2.31"))
        said = what_is_missing(self.facts(python=python), self.manifest)
        assert said is not None
        assert "ai-edge-litert==2.1.0" in said

    def test_no_python(self) -> None:
        said = what_is_missing(self.facts(python=None), self.manifest)
        assert said is not None
        assert said.startswith("there is no Python: sudo apt-get install python3")

    def test_nothing_is_missing(self) -> None:
        python = dataclasses.replace(BOARD, packages={"numpy": "2.0", "tflite-runtime": "2.14"})
        assert what_is_missing(self.facts(python=python), self.manifest) is None
