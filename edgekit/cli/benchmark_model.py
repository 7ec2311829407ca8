"""`edgekit bench --benchmark-model PATH`: measure with Google's binary, which has a phone's GPU and NPU delegates."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from edgekit.cli.output import emit, progress, trust_of
from edgekit.errors import ConfigError

DELEGATES = ("cpu", "gpu", "nnapi")


def add_benchmark_model(parser: argparse.ArgumentParser) -> None:
    """Declare --benchmark-model and what goes with it."""
    group = parser.add_argument_group("with Google's benchmark_model")
    group.add_argument("--benchmark-model", type=Path, metavar="PATH", help="push this binary to the device and run it")
    group.add_argument("--delegate", choices=DELEGATES, default="cpu", help="what it runs the model on (default: cpu)")
    group.add_argument(
        "--benchmark-flag", action="append", default=[], metavar="--FLAG=VALUE", help="another flag for it; repeatable"
    )


def run_with_benchmark_model(args: argparse.Namespace) -> int:
    """Measure and print what it says."""
    from edgekit.devices import opened_device
    from edgekit.devices.benchmark_model import run_benchmark_model

    if args.device is None:
        raise ConfigError("--benchmark-model needs --device, for example adb:SERIAL")
    with opened_device(args.device) as device:
        progress(f"measuring on {args.device} with {args.benchmark_model.name}")
        figures = run_benchmark_model(
            args.bundle, device, args.benchmark_model, variant=args.variant, delegate=args.delegate,
            warmup=args.warmup, runs=args.runs, threads=args.threads, flags=args.benchmark_flag, **trust_of(args),
        )  # fmt: skip
    median = "" if figures.median_ms is None else f"median {figures.median_ms:.4f} ms, "
    text = (
        f"{figures.variant} on {args.device} {args.benchmark_model.name}, {figures.delegate} delegate took "
        f"{figures.delegated}, {figures.threads} thread(s): {median}mean {figures.mean_ms:.4f} ms (min "
        f"{figures.min_ms:.4f}, max {figures.max_ms:.4f}, std {figures.std_ms:.4f}; {figures.runs} runs after "
        f"{figures.warmup} warm-up), first {figures.first_ms:.4f} ms, init {figures.init_ms:.4f} ms"
    )
    emit(args, {"tool": "benchmark_model", "device": args.device, **dataclasses.asdict(figures)}, text)
    return 0
