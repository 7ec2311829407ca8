"""What to install on a device that cannot run a bundle, in the words of its own system."""

from __future__ import annotations

from edgekit.devices.facts import DeviceFacts
from edgekit.devices.vendoring import download_line
from edgekit.manifest import Manifest
from edgekit.versions import version_key

LEAST_PYTHON = "3.10"

_PACKAGES = {  # engine of a variant -> packages that bring it, the first to be recommended
    "litert": ("ai-edge-litert", "tflite-runtime"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
}
_MANAGED = {"debian": "12", "ubuntu": "23.04", "raspbian": "12"}  # from here on pip leaves the system's Python alone
_NEWEST_LITERT_GLIBC, _OLDER_LITERT = "2.34", "ai-edge-litert==2.1.0"


def what_is_missing(facts: DeviceFacts, manifest: Manifest) -> str | None:
    """One line: what a bundle lacks there and how to get it; None when every engine that it asks for is there."""
    python = facts.python
    if python is None:
        return "there is no Python: sudo apt-get install python3, or name one in the URL: ?python=PATH"
    if version_key(python.version) < version_key(LEAST_PYTHON):
        return (
            f"{_system(facts)} has Python {python.version}, edgekit needs {LEAST_PYTHON} or newer: JetPack 6 and "
            "Debian 12 have it; or name another in the URL: ?python=PATH"
        )
    wanted = {variant.engine for variant in manifest.variants if variant.engine in _PACKAGES}
    lacking = sorted(engine for engine in wanted if not set(_PACKAGES[engine]) & set(python.packages))
    packages = ["numpy"] if "numpy" not in python.packages else []
    packages += [_fitting(_PACKAGES[engine][0], facts) for engine in lacking]
    if not packages:
        return None
    return (
        f"{_system(facts)} lacks {', '.join(packages)}: {_install(facts, packages)}; or bring wheels along with "
        f"--vendor-wheels DIR, filled by {download_line(facts, tuple(packages))}"
    )


def _system(facts: DeviceFacts) -> str:
    return f"JetPack {facts.jetpack}" if facts.jetpack else facts.os or "the device"


def _install(facts: DeviceFacts, packages: list[str]) -> str:
    words = " ".join(packages)
    if _is_managed(facts):
        return (
            f"there, python3 -m venv ~/edgekit && ~/edgekit/bin/pip install {words}, and in the URL "
            "?python=/home/USER/edgekit/bin/python3"
        )
    return f"there, python3 -m pip install {words}"


def _is_managed(facts: DeviceFacts) -> bool:
    """PEP 668: Debian 12 and what is made of it, and Ubuntu 24.04 under JetPack 7."""
    least = _MANAGED.get(facts.os_id.get("ID", ""))
    return least is not None and version_key(facts.os_id.get("VERSION_ID", "0")) >= version_key(least)


def _fitting(package: str, facts: DeviceFacts) -> str:
    """The last ai-edge-litert that an older glibc loads, whatever the newer ones' tags say."""
    libc = facts.python.libc if facts.python else ()
    old = len(libc) == 2 and version_key(libc[1]) < version_key(_NEWEST_LITERT_GLIBC)
    return _OLDER_LITERT if old and package == "ai-edge-litert" else package
