"""What `edgekit serve` costs over the bare session, under load and under overload.

    python examples/photo_bundle.py -o out/photos        # once, some minutes: EfficientNet-Lite0
    python benchmarks/serve.py out/photos/efficientnet-lite0-1.0.0.edgekit

The bare session runs one sample in this process, before and after the load. Then `--clients` processes send the same
sample as binary tensors over kept connections, each as soon as its last answer came, for `--seconds`. For the overload,
a second server has one worker and four places to wait, and `--crowd` connections ask it at once. Memory is the server
process's resident set (/proc/PID/status), after the first seconds of each load and in its last second. Prints one JSON
object; the machine should do nothing else.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from edgekit.runtime import Session, open_bundle
from edgekit.serving.protocol import JSON_LENGTH, datatype_of

SETTLED_S = 3.0  # of a load, before memory is read for the first time
STARTING_S = 3.0  # until every client process has imported what it needs
BARE_RUNS, WARMUP = 200, 20


@dataclass
class Told:
    """What one client saw."""

    seconds: list[float] = field(default_factory=list)  # of answers with 200
    codes: Counter[str] = field(default_factory=Counter)  # status or the error's name


def main() -> None:
    """Measure one bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--crowd", type=int, default=64)
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    args = parser.parse_args()
    words = ["--variant", args.variant] if args.variant else []
    with open_bundle(args.bundle, variant=args.variant) as session:
        body, headers = request_of(session)
        bare = bare_ms(session)
        with server(args.bundle, *words, "--workers", str(args.workers)) as (url, pid):
            load = under_load(url, pid, body, headers, clients=args.clients, seconds=args.seconds)
        bare_ms_all = bare + bare_ms(session)
        with server(args.bundle, *words, "--workers", "1", "--queue", "4") as (url, pid):
            overload = under_overload(url, pid, body, headers, crowd=args.crowd, seconds=args.overload_seconds)
        p50 = statistics.median(bare_ms_all)
        figures = {
            "variant": session.choice.variant, "body_bytes": len(body), "workers": args.workers,
            "bare_p50_ms": round(p50, 3), "load": load, "overload": overload,
            "p99_over_bare_p50": round(load["p99_ms"] / p50, 2),
        }  # fmt: skip
    print(json.dumps(figures, indent=2))


def request_of(session: Session) -> tuple[bytes, dict[str, str]]:
    """One made-up sample as a request, in binary both ways."""
    sample = session.sample()
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": datatype_of(array.dtype),
         "parameters": {"binary_data_size": array.nbytes}}
        for name, array in sample.items()
    ]  # fmt: skip
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = b"".join([head, *(array.tobytes() for array in sample.values())])
    return body, {JSON_LENGTH: str(len(head))}


def bare_ms(session: Session) -> list[float]:
    """Milliseconds of each run in this process."""
    return list(session.benchmark(warmup=WARMUP, runs=BARE_RUNS).samples_ms)


@contextmanager
def server(bundle: Path, *argv: str) -> Iterator[tuple[str, int]]:
    """The address of the model and the server's process id."""
    words = [sys.executable, "-m", "edgekit", "serve", str(bundle), *argv, "--port", "0", "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = json.loads(process.stdout.readline())
        yield f"{said['url']}/v2/models/{said['models'][0]['name']}/infer", process.pid
    finally:
        process.terminate()
        process.wait()


def under_load(
    url: str, pid: int, body: bytes, headers: dict[str, str], *, clients: int, seconds: float
) -> dict[str, float | dict[str, int]]:
    """Latencies of clients that each wait for their answer."""
    with ProcessPoolExecutor(clients, mp_context=get_context("spawn")) as pool:
        start = time.time() + STARTING_S
        asking = [pool.submit(ask, url, body, headers, start, seconds) for _ in range(clients)]
        time.sleep(STARTING_S)
        memory = _memory_over(pid, seconds)
        told = [each.result() for each in asking]
    taken_ms = np.array([each for one in told for each in one.seconds]) * 1e3
    p50, p90, p99 = np.percentile(taken_ms, (50, 90, 99))
    return {
        "clients": clients, "seconds": seconds, "answers": len(taken_ms), "codes": _codes(told),
        "p50_ms": round(float(p50), 3), "p90_ms": round(float(p90), 3), "p99_ms": round(float(p99), 3), **memory,
    }  # fmt: skip


def under_overload(
    url: str, pid: int, body: bytes, headers: dict[str, str], *, crowd: int, seconds: float
) -> dict[str, object]:
    """Statuses of more clients than there are places."""
    with ThreadPoolExecutor(crowd) as pool:
        asking = [pool.submit(ask, url, body, headers, time.time(), seconds) for _ in range(crowd)]
        memory = _memory_over(pid, seconds)
        told = [each.result() for each in asking]
    return {"crowd": crowd, "seconds": seconds, "codes": _codes(told), **memory}


def ask(url: str, body: bytes, headers: dict[str, str], start_at: float, seconds: float) -> Told:
    """Send the request again and again over one connection, from the time `start_at` on."""
    time.sleep(max(0.0, start_at - time.time()))
    where, told, end = urlsplit(url), Told(), time.perf_counter() + seconds
    link = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
    while time.perf_counter() < end:
        start = time.perf_counter()
        try:
            link.request("POST", where.path, body, headers)
            answer = link.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as problem:
            told.codes[type(problem).__name__] += 1
            link.close()
            continue
        told.codes[str(answer.status)] += 1
        if answer.status == 200:
            told.seconds.append(time.perf_counter() - start)
    link.close()
    return told


def _codes(told: list[Told]) -> dict[str, int]:
    return dict(sum((one.codes for one in told), Counter()))


def _memory_over(pid: int, seconds: float) -> dict[str, float]:
    time.sleep(min(SETTLED_S, seconds / 2))
    before = _resident_mb(pid)
    time.sleep(max(0.0, seconds - SETTLED_S - 1))
    return {"resident_mb_begin": before, "resident_mb_end": _resident_mb(pid)}


def _resident_mb(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return round(int(line.split()[1]) / 1e3, 1)


if __name__ == "__main__":
    main()
