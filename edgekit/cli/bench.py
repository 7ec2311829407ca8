"""`edgekit bench BUNDLE`: measure one variant's latency."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.cli.output import add_require_signature, emit, progress, trust_of
from edgekit.cli.table import table
from edgekit.runtime import survey
from edgekit.runtime.timing import DEFAULT_RUNS, DEFAULT_WARMUP, Stages
from edgekit.trust import check_signature

HERE = "local:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit bench`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--variant", metavar="ID", help="a variant of the bundle (default: the best that runs there)")
    parser.add_argument("--runs", type=int, default=DEFAULT_RUNS, metavar="N", help="timed runs")
    parser.add_argument("--warmup", type=int, default=DEFAULT_WARMUP, metavar="N", help="untimed runs before them")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--device", metavar="URL", help="measure there (default: in this process)")
    add_require_signature(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print the figures."""
    reply = _bench_here(args) if args.device is None else _bench_there(args)
    (benched,) = reply.results
    choice, timing = benched.choice, benched.timing
    device = args.device or HERE
    result: dict[str, object] = {
        "variant": choice.variant,
        "engine": f"{choice.engine} {choice.engine_version}",
        "accelerator": choice.accelerator,
        "device": device,
        "threads": choice.threads,
        **dataclasses.asdict(timing),
    }
    if benched.stages is not None:
        result["stages"] = dataclasses.asdict(benched.stages)
    text = (
        f"{choice.variant} on {device} {choice.package} {choice.engine_version}, {choice.accelerator}, "
        f"{choice.threads} thread(s): median {timing.median_ms:.4f} ms, p90 {timing.p90_ms:.4f} ms, "
        f"p99 {timing.p99_ms:.4f} ms ({timing.runs} runs after {timing.warmup} warm-up)"
    )
    emit(args, result, text if benched.stages is None else f"{text}\n{_stages(benched.stages)}")
    return 0


def _stages(stages: Stages) -> str:
    """The figures of trtexec under its names."""
    named = {
        "Latency": stages.latency,
        "Enqueue Time": stages.enqueue,
        "H2D Latency": stages.h2d,
        "GPU Compute Time": stages.compute,
        "D2H Latency": stages.d2h,
    }
    rows: list[tuple[str, ...]] = [("ms", "min", "median", "p90", "p95", "p99", "max")]
    rows += [(name, *(f"{value:.4f}" for value in dataclasses.astuple(spread))) for name, spread in named.items()]
    graph = "with" if stages.cuda_graph else "without"
    return f"Throughput: {stages.throughput_per_s:.1f} runs/s, one after the other, {graph} a CUDA graph\n{table(rows)}"


def _bench_here(args: argparse.Namespace) -> survey.BenchReply:
    with Bundle.open(args.bundle) as bundle:
        check_signature(bundle, require=args.require_signature, trust=args.trust)
        counts = {"warmup": args.warmup, "runs": args.runs, "threads": args.threads}
        return survey.bench(bundle, [args.variant], **counts, progress=progress)


def _bench_there(args: argparse.Namespace) -> survey.BenchReply:
    from edgekit.devices import deploy, opened_device

    with opened_device(args.device) as device:
        progress(f"measuring on {args.device}")
        deployed = deploy(args.bundle, device, **trust_of(args))
        return deployed.bench(args.variant, warmup=args.warmup, runs=args.runs, threads=args.threads)
