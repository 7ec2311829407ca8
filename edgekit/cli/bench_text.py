"""`edgekit bench` of a language model: until the first token, while it reads a prompt, and for each new token."""

from __future__ import annotations

import argparse
import dataclasses

from edgekit.bundle import Bundle
from edgekit.cli.keeping import keep
from edgekit.cli.output import emit, progress, trust_of
from edgekit.commits import current_commit
from edgekit.errors import ConfigError
from edgekit.files import sha256_file
from edgekit.history import Run, figures_of
from edgekit.runtime import text_survey
from edgekit.runtime.text_timing import DEFAULT_TEXTS, TextBenched
from edgekit.runtime.timing import Timing
from edgekit.trust import check_signature

HERE = "local:"
_FLAGS = ("texts", "prompt_tokens", "new_tokens")
_RUNS = ("runs", "warmup", "profile", "accelerator")  # flags of models that take one input and give one output


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the flags of language models."""
    group.add_argument("--texts", type=int, metavar="N", help=f"timed texts (default: {DEFAULT_TEXTS}), after one more")
    group.add_argument("--prompt-tokens", type=int, metavar="N", help="default: about half of the context")
    group.add_argument("--new-tokens", type=int, metavar="N", help="of each text; default: a quarter of the context")


def is_text(args: argparse.Namespace) -> bool:
    """Whether the bundle holds a language model. Raises ConfigError for flags of the other kind."""
    with Bundle.open(args.bundle) as bundle:
        text = bundle.manifest.language is not None
    wrong = next((name for name in (_RUNS if text else _FLAGS) if getattr(args, name) not in (None, False)), None)
    if wrong is not None:
        kind, flag = "a" if text else "no", wrong.replace("_", "-")
        raise ConfigError(f"--{flag} does not apply: {args.bundle.name} holds {kind} language model: leave it out")
    return text


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    found = _bench_here(args) if args.device is None else _bench_there(args)
    device, choice = args.device or HERE, found.choice
    figures = {name: value for name, value in dataclasses.asdict(found).items() if name != "choice"}
    result = {
        "variant": choice.variant, "engine": f"{choice.engine} {choice.engine_version}",
        "accelerator": choice.accelerator, "device": device, "threads": choice.threads, **figures,
    }  # fmt: skip
    keep(args, [_kept(args, device, found)])
    emit(args, result, _text(found, device))
    return 0


def _text(found: TextBenched, device: str) -> str:
    choice, mib = found.choice, 1 << 20
    peak = "not known here" if found.peak_rss_bytes is None else f"{found.peak_rss_bytes / mib:.1f} MiB"
    return "\n".join(
        (
            f"{choice.variant} on {device} {choice.package} {choice.engine_version}, {choice.accelerator}, "
            f"{choice.threads} thread(s): {found.first_token.runs} texts of {found.prompt_tokens} tokens and "
            f"{found.new_tokens} new ones, after one that is not timed",
            f"time to first token: {_spread(found.first_token)}",
            f"prefill: {found.prefill_tokens_per_s:.1f} tokens/s ({found.prompt_tokens - 1} tokens: "
            f"{_spread(found.prefill)})",
            f"decode: {found.decode_tokens_per_s:.1f} tokens/s (each new token: {_spread(found.decode)})",
            f"peak memory of the process: {peak}",
            f"bytes per token: {found.bytes_per_token:,} are read for a new one at most, the weights and the keys and "
            f"values of a whole context; each token in it takes {found.cache_bytes_per_token:,}",
            *choice.notes,
        )
    )


def _spread(timing: Timing) -> str:
    return f"median {timing.median_ms:.3f} ms, p90 {timing.p90_ms:.3f} ms"


def _bench_here(args: argparse.Namespace) -> TextBenched:
    with Bundle.open(args.bundle) as bundle:
        check_signature(bundle, require=args.require_signature, trust=args.trust)
        return text_survey.bench(
            bundle, text_survey.Asked(args.variant, args.threads, args.trust), texts=_texts(args),
            prompt_tokens=args.prompt_tokens, new_tokens=args.new_tokens, progress=progress,
        )  # fmt: skip


def _bench_there(args: argparse.Namespace) -> TextBenched:
    from edgekit.devices import deploy
    from edgekit.devices.deploy import ZipappBundle
    from edgekit.devices.facts import check_times_mean_something
    from edgekit.devices.leases import leased_device

    with leased_device(args.device) as (device, _):
        check_times_mean_something(device)
        progress(f"measuring on {args.device}")
        deployed = deploy(args.bundle, device, vendor_wheels=args.vendor_wheels, **trust_of(args))
        assert isinstance(deployed, ZipappBundle)  # language models go nowhere else
        lengths = {"prompt_tokens": args.prompt_tokens, "new_tokens": args.new_tokens}
        return deployed.bench_texts(args.variant, texts=_texts(args), threads=args.threads, **lengths)


def _texts(args: argparse.Namespace) -> int:
    return DEFAULT_TEXTS if args.texts is None else int(args.texts)


def _kept(args: argparse.Namespace, device: str, found: TextBenched) -> Run:
    figures: dict[str, object] = {
        "first_token_ms": found.first_token.median_ms,
        "prefill_tokens_per_s": found.prefill_tokens_per_s,
        "decode_tokens_per_s": found.decode_tokens_per_s,
        "peak_rss_bytes": found.peak_rss_bytes,
        "bytes_per_token": found.bytes_per_token,
    }
    with Bundle.open(args.bundle) as bundle:
        name, version = bundle.manifest.name, bundle.manifest.version
    return Run(
        "bench", device, name, version, sha256_file(args.bundle), current_commit(), "measured",
        figures_of({found.choice.variant: figures}),
    )  # fmt: skip
