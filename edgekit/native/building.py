"""`runner.c` compiled for a device by the compiler of the package ziglang: the same source gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgekit.errors import ConfigError, EngineError, did_you_mean
from edgekit.files import atomic

SOURCE = Path(__file__).with_name("runner.c")
TIMEOUT_S = 300.0  # the first build for a target makes what it links with

_GLIBC = "2.34"  # what libLiteRt.so of ai-edge-litert 2.3 needs
_FLAGS = ("-O2", "-g0", "-s", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none")


@dataclass(frozen=True)
class Abi:
    """One kind of processor, under Android's name for it."""

    machine: str  # as `uname -m` says
    loader: str  # of its glibc
    libc: tuple[str, ...]  # folders where a build machine has that glibc
    get_libc: str  # how to get it


ABIS: Mapping[str, Abi] = {
    "arm64-v8a": Abi(
        "aarch64",
        "ld-linux-aarch64.so.1",
        ("/usr/aarch64-linux-gnu/lib", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64"),
        "Debian: apt-get install libc6-arm64-cross libstdc++6-arm64-cross",
    ),
    "x86_64": Abi(
        "x86_64",
        "ld-linux-x86-64.so.2",
        ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"),
        "Debian: apt-get install libc6 libstdc++6",
    ),
}


def abi_of(machine: str) -> str | None:
    """The ABI of what `uname -m` says; None where there is no runner for it."""
    return next((name for name, abi in ABIS.items() if abi.machine == machine), None)


def known_abi(name: str) -> Abi:
    """Raises ConfigError with a suggestion."""
    if name not in ABIS:
        raise ConfigError(f"no ABI '{name}'{did_you_mean(name, ABIS)}")
    return ABIS[name]


def build_runner(abi: str, output: Path, *, scratch: Path) -> None:
    """Compile the runner; the compiler's own work stays in `scratch`. Raises EngineError, ConfigError, OutputError."""
    target = f"{known_abi(abi).machine}-linux-gnu.{_GLIBC}"
    if find_spec("ziglang") is None:
        raise EngineError('the native runner is compiled by ziglang: pip install "edgekit[native]"')
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(scratch), "ZIG_LOCAL_CACHE_DIR": str(scratch)}
    with atomic(output, mode=0o777) as temporary:
        argv = [sys.executable, "-m", "ziglang", "cc", "-target", target, *_FLAGS, "-o", str(temporary), SOURCE.name]
        try:
            done = subprocess.run(
                argv, cwd=SOURCE.parent, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as problem:
            raise EngineError(f"the native runner for {abi} was not compiled after {TIMEOUT_S:g} s") from problem
        if done.returncode:
            raise EngineError(
                f"the native runner for {abi} was not compiled: {' | '.join(done.stderr.splitlines()[-5:])}"
            )
