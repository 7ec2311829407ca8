"""What a device without Python is given: the runner, LiteRT's library, and the C library of the machine that built it.

Android's own C library does not carry LiteRT's Linux library, so the kit brings glibc and its loader; it then also runs
on boards with an older one. Nothing is downloaded: the pieces are of this machine, and of a wheel that the user got.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from edgekit.errors import EngineError
from edgekit.files import UNREADABLE_ZIP
from edgekit.native.building import SOURCE, abi_of, build_runner, known_abi
from edgekit.places import cache_folder

LITERT = "2.3"  # whose C API runner.c declares
RUNNER, LIBRARY = "edgekit-runner", "libLiteRt.so"

_FACTS = "kit.json"
_LIBC = ("libc", "libm", "libstdc++", "libgcc_s", "libdl", "librt", "libpthread")
_MEMBER = f"ai_edge_litert/{LIBRARY}"
_WHEEL = re.compile(r"ai_edge_litert-(?P<version>[^-]+)-.*_(?P<machine>aarch64|x86_64)\.whl")


@dataclass(frozen=True)
class Kit:
    """Files for one ABI."""

    abi: str
    litert: str  # the version of ai-edge-litert that its library is of
    folder: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """All that goes to the device."""
        return tuple(sorted(path for path in self.folder.iterdir() if path.name != _FACTS))

    @property
    def loader(self) -> str:
        """The file that starts the runner."""
        return known_abi(self.abi).loader


def find_kit(abi: str) -> Kit:
    """The kit that was made for an ABI; that of this machine is made when it is first asked for. Raises EngineError."""
    known_abi(abi)
    place = _place(abi)
    if (place / _FACTS).exists():
        facts = json.loads((place / _FACTS).read_text())
        return Kit(abi, str(facts["litert"]), place)
    if abi == abi_of(platform.machine()):
        return make_kit(abi)
    machine = known_abi(abi).machine
    raise EngineError(
        f"there is no native runner for {abi} yet: get LiteRT's wheel with pip download --no-deps --only-binary=:all: "
        f"--platform manylinux_2_27_{machine} ai-edge-litert=={LITERT}.0, then python -m edgekit.native --abi {abi} "
        "--wheel FILE.whl"
    )


def make_kit(abi: str, *, wheel: Path | None = None) -> Kit:
    """Make a kit, in the place of one that is there: LiteRT from `wheel`, or from the installed ai-edge-litert.

    Raises EngineError when a piece is missing or of the wrong kind, ConfigError on another ABI.
    """
    place = _place(abi)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kit-", dir=place.parent) as scratch:
        folder = Path(scratch, "kit")
        folder.mkdir()
        version = _bring_installed(abi, folder) if wheel is None else _bring_wheel(abi, wheel, folder)
        _bring_libc(abi, folder)
        build_runner(abi, folder / RUNNER, scratch=place.parent / "compiler")
        (folder / _FACTS).write_text(json.dumps({"abi": abi, "litert": version}) + "\n")
        if wheel is not None:
            shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):  # another process was first
            folder.rename(place)
    return Kit(abi, version, place)


def _place(abi: str) -> Path:
    return cache_folder("native") / f"{abi}-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"


def _bring_installed(abi: str, folder: Path) -> str:
    package = util.find_spec("ai_edge_litert")
    if package is None or package.origin is None or abi != abi_of(platform.machine()):
        raise EngineError(
            f"the native runner for {abi} needs LiteRT's library: give the wheel of ai-edge-litert {LITERT}"
        )
    version = metadata.version("ai-edge-litert")
    _check_version(version, "the installed ai-edge-litert")
    shutil.copyfile(Path(package.origin).with_name(LIBRARY), folder / LIBRARY)
    return version


def _bring_wheel(abi: str, wheel: Path, folder: Path) -> str:
    named = _WHEEL.fullmatch(wheel.name)
    if named is None or named["machine"] != known_abi(abi).machine:
        raise EngineError(f"{wheel.name}: expected ai_edge_litert-{LITERT}.0-…_{known_abi(abi).machine}.whl")
    _check_version(named["version"], wheel.name)
    try:
        with zipfile.ZipFile(wheel) as archive:
            (folder / LIBRARY).write_bytes(archive.read(_MEMBER))
    except UNREADABLE_ZIP as problem:
        raise EngineError(f"{wheel}: no wheel with {_MEMBER} ({problem}); download it again") from problem
    return str(named["version"])


def _check_version(version: str, where: str) -> None:
    if not version.startswith(f"{LITERT}."):
        raise EngineError(
            f"{where} is {version}, the native runner is made for {LITERT}: pip install ai-edge-litert=={LITERT}.0"
        )


def _bring_libc(abi: str, folder: Path) -> None:
    known = known_abi(abi)
    places = [Path(place) for place in known.libc if Path(place, known.loader).exists()]
    names = [path.name for place in places[:1] for name in _LIBC for path in sorted(place.glob(f"{name}.so.[0-9]"))]
    for name in (known.loader, *names) if places else ():
        shutil.copy(places[0] / name, folder / name)
    missing = [name for name in _LIBC if not list(folder.glob(f"{name}.so.*"))]
    if missing:
        raise EngineError(f"the native runner for {abi} needs {', '.join(missing)} of glibc: {known.get_libc}")
