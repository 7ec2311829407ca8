"""numpy and the engines on a board, as wheels for it, put there on the host: nothing of the board's has to run."""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from edgekit.boards.tools import call
from edgekit.errors import ConfigError

WANTED = ("numpy", "ai-edge-litert", "onnxruntime")

_PYTHON = "3.11"  # of Debian 12
_PLATFORMS = ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")
_PLACE = "opt/edgekit-python"
_TIMEOUT_S = 600.0


def check_wheels(folder: Path) -> None:
    """Before anything is unpacked. Raises ConfigError."""
    if not any(folder.glob("*.whl")):
        raise ConfigError(f"--vendor-wheels: {folder} is no folder of wheels")


def install_packages(tree: Path, vendor_wheels: Path | None) -> dict[str, str]:
    """Into an unpacked system; returns package -> version. Raises ConfigError."""
    if find_spec("pip") is None:
        raise ConfigError(f"a board's packages come by pip, which {sys.executable} lacks: python -m ensurepip")
    place = tree / _PLACE
    source = [] if vendor_wheels is None else ["--no-index", "--find-links", str(vendor_wheels.resolve())]
    argv = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--target", str(place), "--only-binary=:all:", "--implementation", "cp", "--python-version", _PYTHON),
        *(f"--platform={platform}" for platform in _PLATFORMS),
        *(source + [_pinned(name) for name in WANTED]),
    ]
    call(argv, timeout_s=_TIMEOUT_S, what="the board's Python packages")
    folder = tree / "usr/lib/python3/dist-packages"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "edgekit.pth").write_text(f"/{_PLACE}\n")
    return _versions(place)


def _pinned(name: str) -> str:
    """The version of this machine, so that both run the same kernels; any where it has none."""
    try:
        return f"{name}=={metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return name


def _versions(place: Path) -> dict[str, str]:
    found = metadata.distributions(path=[str(place)])
    return {each.name: each.version for each in sorted(found, key=lambda each: each.name)}
