"""A member that was changed inside its bundle reaches no interpreter, whatever asks for it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ai_edge_litert.interpreter
import numpy as np
import pytest

from edgekit.cli import main as edgekit
from edgekit.errors import BundleError, EngineError
from edgekit.runtime import open_bundle
from edgekit.runtime.__main__ import main
from tests.tiny_models import IMAGES

MEMBER = "tflite-int8.tflite"
Changed = Callable[[Path, Path], None]


def in_place(bundle: Path, changed: Path) -> None:
    """One byte of the stored member is another; the zip's checksum is what it was."""
    with zipfile.ZipFile(bundle) as archive:
        info = archive.getinfo(MEMBER)
    content = bytearray(bundle.read_bytes())
    content[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 0x10
    changed.write_bytes(content)


def with_checksum(bundle: Path, changed: Path) -> None:
    """One byte of the member is another, and the zip was made anew around it."""
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(changed, "w") as target:
        for info in source.infolist():
            content = bytearray(source.read(info))
            if info.filename == MEMBER:
                content[len(content) // 2] ^= 0x10
            target.writestr(info, bytes(content))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The interpreters that were asked for; none is given."""
    asked: list[object] = []

    def interpreter(*args: object, **settings: object) -> Any:
        asked.append((args, settings))
        raise ValueError("no interpreter here")

    monkeypatch.setattr(ai_edge_litert.interpreter, "Interpreter", interpreter)
    return asked


@pytest.fixture(params=[in_place, with_checksum])
def changed(request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path: Path) -> Path:
    change: Changed = request.param
    change(tiny_bundle, tmp_path / "changed-1.0.0.edgekit")
    return tmp_path / "changed-1.0.0.edgekit"


def test_a_sound_member_reaches_the_interpreter(tiny_bundle: Path, made: list[object]) -> None:
    with pytest.raises(EngineError, match="no interpreter here"):
        open_bundle(tiny_bundle, variant="tflite-int8")
    assert len(made) == 1


@pytest.mark.parametrize("variant", [None, "tflite-int8"])
def test_a_session(changed: Path, made: list[object], variant: str | None) -> None:
    with pytest.raises(BundleError, match=f"member '{MEMBER}' was changed"):
        open_bundle(changed, variant=variant)
    assert made == []


@pytest.mark.parametrize("command", ["run", "bench", "golden", "verify"])
def test_the_runtime_on_a_device(
    changed: Path, made: list[object], command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", image=IMAGES)
    files = ["--input", str(tmp_path / "x.npz"), "--output", str(tmp_path / "y.npz")] if command == "run" else []
    assert main([command, str(changed), *files]) == 2
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["type"]) == ("error", "BundleError")
    assert MEMBER in last["message"]
    assert made == []


@pytest.mark.parametrize("verb", ["run", "test", "inspect"])
def test_the_command_line(
    changed: Path, made: list[object], verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", image=IMAGES)
    files = ["--input", str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz")] if verb == "run" else []
    assert edgekit([verb, str(changed), *files]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert MEMBER in line
    assert made == []
    assert not (tmp_path / "y.npz").exists()
