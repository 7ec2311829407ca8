"""The native runner's build: the same source, the same bytes; and its kit, piece by piece."""

from __future__ import annotations

import platform
import subprocess
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgekit.errors import ConfigError, EngineError
from edgekit.files import sha256_file
from edgekit.native import ABIS, build_runner, find_kit, make_kit
from edgekit.native.__main__ import main
from edgekit.native.building import SOURCE, abi_of
from tests.devices import adbd

HERE = abi_of(platform.machine())
AARCH64 = 183  # e_machine of the ELF format
WHEEL = "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl"
needs_compiler = pytest.mark.skipif(find_spec("ziglang") is None, reason='no ziglang: pip install "edgekit[native]"')


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))


@needs_compiler
def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    built = [tmp_path / name / "edgekit-runner" for name in ("first", "second")]
    for path in built:
        build_runner("arm64-v8a", path, scratch=path.parent / "scratch")  # each compiles all anew
    assert sha256_file(built[0]) == sha256_file(built[1])
    header = built[0].read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == AARCH64
    assert built[0].stat().st_size < 50_000


def test_another_abi(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no ABI 'arm64'; did you mean 'arm64-v8a'"):
        build_runner("arm64", tmp_path / "runner", scratch=tmp_path)


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.native.building.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"compiled by ziglang: pip install \"edgekit\[native\]\""):
        build_runner("x86_64", tmp_path / "runner", scratch=tmp_path)


@needs_compiler
def test_source_that_does_not_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runner.c").write_text("int main(void) { return missing; }\n")
    monkeypatch.setattr("edgekit.native.building.SOURCE", tmp_path / "runner.c")
    with pytest.raises(EngineError, match=r"was not compiled: .*missing"):
        build_runner("x86_64", tmp_path / "runner", scratch=tmp_path / "scratch")
    assert not (tmp_path / "runner").exists()


def test_a_kit_that_was_not_made_says_how() -> None:
    other = next(abi for abi in ABIS if abi != HERE)
    with pytest.raises(EngineError, match=rf"pip download .* python -m edgekit.native --abi {other} --wheel"):
        find_kit(other)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (WHEEL.replace("aarch64", "x86_64"), b"", "expected ai_edge_litert-2.3.0-…_aarch64.whl"),
        (WHEEL.replace("ai_edge_litert", "numpy"), b"", "expected ai_edge_litert-2.3.0-…_aarch64.whl"),
        (WHEEL.replace("2.3.0", "1.4.0"), b"", "is 1.4.0, the native runner is made for 2.3"),
        (WHEEL, b"no zip", "no wheel with ai_edge_litert/libLiteRt.so"),
    ],
)
def test_a_wheel_that_is_none(
    tmp_path: Path, name: str, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["--abi", "arm64-v8a", "--wheel", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert [path.name for path in (tmp_path / "cache/native").iterdir()] == []


def test_a_machine_without_that_glibc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / WHEEL, "w") as archive:
        archive.writestr("ai_edge_litert/libLiteRt.so", b"library")
    monkeypatch.setattr("edgekit.native.kits.known_abi", lambda name: _without_libc(name))
    with pytest.raises(EngineError, match=r"needs libc, libm, .* of glibc: Debian: apt-get install libc6-arm64-cross"):
        make_kit("arm64-v8a", wheel=tmp_path / WHEEL)


def _without_libc(name: str) -> object:
    from dataclasses import replace

    return replace(ABIS[name], libc=("/no/such/folder",))


@needs_compiler
@pytest.mark.skipif(HERE is None, reason="no native runner for this machine")
def test_the_runner_answers_in_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(adbd.CACHE.with_name("edgekit")))
    kit = find_kit(str(HERE))
    assert find_kit(str(HERE)) == kit
    argv = [kit.folder / kit.loader, "--library-path", kit.folder, kit.folder / "edgekit-runner", "dance"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout.startswith('{"event": "error", "type": "ConfigError"')
    assert SOURCE.name in done.stdout
