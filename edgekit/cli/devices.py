"""`edgekit devices`: what is attached, and what it is."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable

from edgekit.attached import Probed, attached, probe_each
from edgekit.cli.output import emit, progress
from edgekit.devices.facts import DeviceFacts, PythonFacts, ThermalState

_UNKNOWN = "unknown"
_WIDTH = 16
_TELLING = (  # of a CPU's features, those that kernels of neural networks use
    *("asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme"),
    *("avx", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "f16c", "fma"),
)
_GIB, _GHZ = 1 << 30, 1e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit devices`."""
    parser.add_argument(
        "--device", action="append", metavar="URL",
        help="ask this one, as ssh://user@host; repeatable (default: this machine, the virtual boards that run, and "
        "what adb is connected to)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """List the devices with their facts; 3 when one of them does not answer."""
    urls = list(dict.fromkeys(args.device or attached()))
    progress(f"asking {len(urls)} device{'s' if len(urls) > 1 else ''} …")
    found = probe_each(urls)
    text = "\n\n".join(_block(device) for device in found)
    emit(args, {"devices": [_json(device) for device in found]}, text)
    return max((device.problem.exit_code for device in found if device.problem), default=0)


def _json(device: Probed) -> dict[str, object]:
    problem = device.problem
    error = None if problem is None else {"type": type(problem).__name__, "message": str(problem)}
    facts = None if device.facts is None else dataclasses.asdict(device.facts)
    return {"url": device.url, "facts": facts, "error": error}


def _block(device: Probed) -> str:
    if device.facts is None:
        return f"{device.url}\n  {type(device.problem).__name__}: {device.problem}"
    lines = [f"  {name:<{_WIDTH}}{value}" for name, value in _lines(device.facts)]
    return "\n".join([device.url, *lines])


def _lines(facts: DeviceFacts) -> list[tuple[str, str]]:
    state = facts.state
    model = facts.model or _UNKNOWN
    rows: list[tuple[str, str]] = [
        ("board", f"{model} ({facts.emulated}: no latency of it says anything)" if facts.emulated else model),
        ("system on chip", facts.soc or _UNKNOWN),
        ("system", _joined((facts.os, facts.kernel))),
        ("cpu", _joined((facts.machine, f"{facts.cpus} cores" if facts.cpus else None))),
        ("vector units", " ".join(name for name in facts.cpu_features if name in _TELLING) or _UNKNOWN),
        ("memory", _of(facts.memory_available_bytes, facts.memory_bytes)),
        ("storage", _of(facts.storage_free_bytes, facts.storage_bytes)),
        ("accelerators", ", ".join(facts.accelerators) or "none seen"),
        ("python", _python(facts.python)),
    ]
    if facts.l4t or facts.tensorrt:
        rows.append(("JetPack", f"{facts.jetpack or _UNKNOWN} (Jetson Linux {facts.l4t or _UNKNOWN})"))
        rows.append(("TensorRT", facts.tensorrt or "none installed"))
    rows.append(("temperature", _temperature(state)))
    return [*rows, ("power mode", state.power_mode or _UNKNOWN), ("clock", _clock(state))]


def _joined(parts: Iterable[str | None]) -> str:
    return ", ".join(part for part in parts if part) or _UNKNOWN


def _of(free: int | None, total: int | None) -> str:
    if total is None:
        return _UNKNOWN
    return f"{_UNKNOWN if free is None else f'{free / _GIB:.1f}'} of {total / _GIB:.1f} GiB free"


def _python(python: PythonFacts | None) -> str:
    if python is None:
        return "none found"
    packages = ", ".join(f"{name} {version}" for name, version in python.packages.items())
    return f"{python.version}, {' '.join(python.libc) or 'unknown libc'}; {packages or 'no numpy, no engine'}"


def _temperature(state: ThermalState) -> str:
    said = [f"{name} {celsius:.1f} °C" for name, celsius in state.temperatures_celsius.items()]
    said += [f"battery {state.battery_celsius:.1f} °C"] if state.battery_celsius is not None else []
    said += [f"thermal status {state.status}"] if state.status is not None else []
    said += ["held down by its firmware"] if state.throttled else []
    return ", ".join(said) or _UNKNOWN


def _clock(state: ThermalState) -> str:
    if not state.frequencies_hz:
        return _joined(state.governors)
    now, most = min(state.frequencies_hz), max(state.limits_hz, default=0)
    return f"{'/'.join(state.governors)}, {now / _GHZ:.2f} GHz and up" + (f", of {most / _GHZ:.2f} GHz" if most else "")
