"""A fleet of simulated devices in one run of the device tests: what the harness itself costs, and how it grows.

    python benchmarks/fleet.py [BUNDLE] [--devices 1,10,30,100] [--jobs 2] [-o out/fleet]

Every device is a `local:NAME` with a folder and a lease of its own. What the harness costs (pytest, fixtures, leases,
pushes, reports) is told in two ways, for each device: processor slots x wall time less the time in which commands ran
on the devices (timed around the transport), and the processor time of the pytests themselves, which holds on a busy
machine too. Each size is a line of fleet.jsonl as soon as it is there, and is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

TIMES = "EDGEKIT_FLEET_TIMES"  # a folder: this file is also a plugin of the pytests, which leave their times there
_SELECT = "not faults"  # their waits are not the harness's
_spent: list[float] = []


@pytest.fixture(scope="session", autouse=True)
def _timed_commands() -> Any:
    from edgekit.devices.local import LocalTransport

    real = LocalTransport.run

    def run(self: Any, *args: Any, **options: Any) -> Any:
        begun = perf_counter()
        try:
            return real(self, *args, **options)
        finally:
            _spent.append(perf_counter() - begun)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalTransport, "run", run)
        yield
    used = resource.getrusage(resource.RUSAGE_SELF)  # without the commands, which are processes of their own
    told = {"commands_s": _spent, "cpu_s": used.ru_utime + used.ru_stime}
    Path(os.environ[TIMES], f"{os.getpid()}.json").write_text(json.dumps(told))


def measure(bundle: Path, devices: int, jobs: int) -> dict[str, Any]:
    """One run over so many devices; all of them must pass and be in the one report."""
    from edgekit.devices.testing import run_device_tests

    urls = [f"local:device-{index:03}" for index in range(devices)]
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {TIMES: folder, "PYTEST_PLUGINS": Path(__file__).stem}
        begun = perf_counter()
        outcome = run_device_tests(bundle, urls, jobs=jobs, select=_SELECT)
        wall_s = perf_counter() - begun
        told = [json.loads(path.read_text()) for path in Path(folder).iterdir()]
    commands = [time for each in told for time in each["commands_s"]]
    if outcome.failed or outcome.broken or [device["url"] for device in outcome.report["devices"]] != urls:
        raise SystemExit(f"{outcome.failed} failed, broken: {outcome.broken}")
    slots = min(jobs, devices)
    return {
        "devices": devices,
        "jobs": jobs,
        "wall_s": round(wall_s, 2),
        "tests": outcome.passed + outcome.skipped,
        "commands": len(commands),
        "commands_s": round(sum(commands), 2),
        "overhead_s_per_device": round((slots * wall_s - sum(commands)) / devices, 3),
        "harness_cpu_s_per_device": round(sum(each["cpu_s"] for each in told) / devices, 3),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Measure the sizes that the notebook lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("out/digits-1.0.0.edgekit"))
    parser.add_argument("--devices", default="1,10,30,100", metavar="N,…")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/fleet"))
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    args.output.mkdir(parents=True, exist_ok=True)
    notebook = args.output / "fleet.jsonl"
    lines = notebook.read_text().splitlines() if notebook.exists() else []
    rows = {(line["devices"], line["jobs"]): line for line in map(json.loads, lines)}
    print("devices  jobs  wall s  commands s  overhead s/device  harness cpu s/device")
    for devices in map(int, args.devices.split(",")):
        key = (devices, args.jobs)
        if key not in rows:
            rows[key] = measure(args.bundle, *key)
            with notebook.open("a") as stream:
                stream.write(json.dumps(rows[key]) + "\n")
        row = rows[key]
        print(
            f"{devices:7}  {args.jobs:4}  {row['wall_s']:6.1f}  {row['commands_s']:10.1f}  "
            f"{row['overhead_s_per_device']:17.3f}  {row['harness_cpu_s_per_device']:20.3f}"
        )


if __name__ == "__main__":
    main()
