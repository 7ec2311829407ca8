"""`edgekit bench BUNDLE`: measure one variant's latency."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any  # Any: keyword arguments of two functions

from edgekit.bundle import Bundle
from edgekit.cli import bench_text
from edgekit.cli.benchmark_model import add_benchmark_model, run_with_benchmark_model
from edgekit.cli.keeping import add_history, check_history, keep
from edgekit.cli.output import add_accelerator, add_require_signature, add_vendor_wheels, emit, progress, trust_of
from edgekit.cli.progress import show
from edgekit.cli.table import table
from edgekit.commits import current_commit
from edgekit.errors import ConfigError
from edgekit.files import sha256_file
from edgekit.history import Run, figures_of
from edgekit.runtime import survey
from edgekit.runtime.profiling import Profile
from edgekit.runtime.stages import Stages
from edgekit.runtime.timing import DEFAULT_RUNS, DEFAULT_WARMUP
from edgekit.trust import check_signature

_SLOWEST = 12  # operators that are printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit bench`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--variant", metavar="ID", help="a variant of the bundle (default: the best that runs there)")
    parser.add_argument("--runs", type=int, metavar="N", help=f"timed runs (default: {DEFAULT_RUNS})")
    parser.add_argument("--warmup", type=int, metavar="N", help=f"untimed runs before them (default: {DEFAULT_WARMUP})")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--device", metavar="URL", help="measure there (default: in this process)")
    add_accelerator(parser)
    add_vendor_wheels(parser)
    add_benchmark_model(parser)
    parser.add_argument(
        "--profile", action="store_true", help="say what operators, memory and energy it takes, as far as is known"
    )
    bench_text.add_arguments(parser.add_argument_group("language models (docs/language-models.md)"))
    add_history(parser)
    add_require_signature(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print the figures."""
    check_history(args)
    if args.benchmark_model is None and bench_text.is_text(args):
        return bench_text.run(args)
    args.runs = DEFAULT_RUNS if args.runs is None else args.runs
    args.warmup = DEFAULT_WARMUP if args.warmup is None else args.warmup
    if args.benchmark_model is not None:
        if args.accelerator is not None:
            raise ConfigError("--accelerator does not go with --benchmark-model: leave one out")
        return run_with_benchmark_model(args)
    reply = _bench_here(args) if args.device is None else _bench_there(args)
    (benched,) = reply.results
    choice, timing = benched.choice, benched.timing
    device = args.device or bench_text.HERE
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
    if benched.profile is not None:
        result["profile"] = dataclasses.asdict(benched.profile)
    keep(args, [_kept(args.bundle, device, reply)])
    text = (
        f"{choice.variant} on {device} {choice.package} {choice.engine_version}, {choice.accelerator}, "
        f"{choice.threads} thread(s): median {timing.median_ms:.4f} ms, p90 {timing.p90_ms:.4f} ms, "
        f"p99 {timing.p99_ms:.4f} ms ({timing.runs} runs after {timing.warmup} warm-up)"
    )
    parts = [text, *choice.notes]
    if benched.stages is not None:
        parts.append(_stages(benched.stages))
    if benched.profile is not None:
        parts.append(_profile(benched.profile))
    emit(args, result, "\n".join(parts))
    return 0


def _profile(profile: Profile) -> str:
    """The slowest operators, then memory and energy."""
    rows: list[tuple[str, ...]] = [("operator", "type", "on", "median ms", "share")]
    rows += [
        (it.name, it.type, it.place, f"{it.median_ms:.4f}", f"{it.share:.1%}") for it in profile.operators[:_SLOWEST]
    ]
    lines = [profile.no_operators] if profile.no_operators else [table(rows)]
    if len(profile.operators) > _SLOWEST:
        lines.append(f"and {len(profile.operators) - _SLOWEST} more (--json has all)")
    peak, energy = profile.peak_rss_bytes, profile.energy
    lines.append(
        "peak memory: not known here" if peak is None else f"peak memory of the process: {peak / 2**20:.1f} MiB"
    )
    if energy is None:
        lines.append("energy: no meter here that may be read")
    else:
        each = energy.joules / (profile.timing.runs + profile.timing.warmup) * 1e3
        lines.append(f"energy: {energy.joules:.3f} J in {energy.seconds:.2f} s, {each:.3f} mJ a run ({energy.meter})")
    return "\n".join(lines)


def _kept(path: Path, device: str, reply: survey.BenchReply) -> Run:
    (benched,) = reply.results
    figures: dict[str, object] = {**vars(benched.timing), "peak_rss_bytes": reply.peak_rss_bytes}
    with Bundle.open(path) as bundle:
        name, version = bundle.manifest.name, bundle.manifest.version
    return Run(
        "bench", device, name, version, sha256_file(path), current_commit(), "measured",
        figures_of({benched.choice.variant: figures}),
    )  # fmt: skip


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
        return survey.bench(bundle, [args.variant], **_wanted(args), progress=progress, trust=args.trust)


def _bench_there(args: argparse.Namespace) -> survey.BenchReply:
    from edgekit.devices import deploy
    from edgekit.devices.facts import check_times_mean_something
    from edgekit.devices.leases import leased_device

    with leased_device(args.device) as (device, _):
        check_times_mean_something(device)
        progress(f"measuring on {args.device}")
        show(device)
        deployed = deploy(args.bundle, device, vendor_wheels=args.vendor_wheels, **trust_of(args))
        return deployed.bench(args.variant, **_wanted(args))


def _wanted(args: argparse.Namespace) -> dict[str, Any]:
    names = ("warmup", "runs", "threads", "profile", "accelerator")
    return {name: getattr(args, name) for name in names}
