"""`python -m edgekit.runtime COMMAND …`: one question, answered in JSON lines on stdout.

Every line is an object with an `event`: `progress` with a `message`; then, last, `result` with the command's answer,
or `error` with `type` and `message` and the error's exit code. It is what `runtime.pyz` runs on a device.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn  # Any: a reply is any of several dataclasses

from edgekit.bundle import Bundle
from edgekit.errors import ConfigError, EdgekitError
from edgekit.runtime import survey, text_survey
from edgekit.runtime.arrays import read_inputs, write_npz
from edgekit.runtime.opening import open_session
from edgekit.runtime.sampling import Sampling
from edgekit.runtime.sequences import run_samples
from edgekit.runtime.text_timing import TextBenched
from edgekit.runtime.timing import DEFAULT_RUNS, DEFAULT_WARMUP
from edgekit.tensorrt.cache import cache_folder
from edgekit.tensorrt.cache_keeping import Pruned, list_cache, prune
from edgekit.trust import check_signature


def main(argv: Sequence[str] | None = None) -> int:
    """Answer one command. Returns the exit code."""
    try:
        args = _parser().parse_args(argv)
        reply = args.answer(args)
    except EdgekitError as problem:
        _say("error", {"type": type(problem).__name__, "message": str(problem)})
        return problem.exit_code
    _say("result", dataclasses.asdict(reply))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="edgekit.runtime")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("probe").set_defaults(answer=lambda _: survey.probe())
    run = _with_bundle(commands.add_parser("run"), _run)
    run.add_argument("--variant")
    run.add_argument("--input", type=Path, required=True)
    run.add_argument("--output", type=Path, required=True)
    for name, answer in (("bench", _bench), ("golden", _golden)):
        command = _with_bundle(commands.add_parser(name), answer)
        which = command.add_mutually_exclusive_group()
        which.add_argument("--variant")
        which.add_argument("--all", action="store_true")
    commands.choices["bench"].add_argument("--warmup", type=int, default=DEFAULT_WARMUP)
    commands.choices["bench"].add_argument("--runs", type=int, default=DEFAULT_RUNS)
    commands.choices["bench"].add_argument("--profile", action="store_true")
    for name in ("run", "bench"):
        commands.choices[name].add_argument("--accelerator")
    _with_bundle(commands.add_parser("verify"), _verify)
    _add_text(commands)
    commands.add_parser("cache-list").set_defaults(answer=lambda _: list_cache(cache_folder()))
    pruning = commands.add_parser("cache-prune")
    pruning.add_argument("--older-than", type=float)
    pruning.add_argument("--max-bytes", type=int)
    pruning.add_argument("--all", action="store_true")
    pruning.set_defaults(answer=_prune)
    return parser


def _add_text(commands: Any) -> None:
    """Questions to language models, in tokens."""
    follow = _with_bundle(commands.add_parser("follow"), _follow)
    follow.add_argument("--prompt", type=_tokens, required=True)
    for name, kind in (("max-tokens", int), ("temperature", float), ("top-k", int), ("top-p", float), ("seed", int)):
        follow.add_argument(f"--{name}", type=kind, default=0.0 if name == "temperature" else None)
    texts = _with_bundle(commands.add_parser("texts"), _texts)
    texts.add_argument("--all", action="store_true")
    bench = _with_bundle(commands.add_parser("bench-texts"), _bench_texts)
    bench.add_argument("--texts", type=int, required=True)
    bench.add_argument("--prompt-tokens", type=int)
    bench.add_argument("--new-tokens", type=int)
    for command in (follow, texts, bench):
        command.add_argument("--variant")


def _tokens(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


class _Parser(argparse.ArgumentParser):
    """Answers a wrong argument in JSON as well."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}")


def _with_bundle(parser: argparse.ArgumentParser, answer: Any) -> argparse.ArgumentParser:
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--require-signature", action="store_true")
    parser.add_argument("--trust", type=Path)
    parser.set_defaults(answer=answer)
    return parser


def _run(args: argparse.Namespace) -> survey.RunReply:
    wanted = {"variant": args.variant, "threads": args.threads, "accelerator": args.accelerator}
    with _opened(args) as bundle, open_session(bundle, **wanted, trust=args.trust) as session:
        write_npz(args.output, run_samples(session, read_inputs(args.input, session.inputs)))
        return survey.RunReply(session.choice)


def _bench(args: argparse.Namespace) -> survey.BenchReply:
    with _opened(args) as bundle:
        return survey.bench(
            bundle,
            survey.every_variant(bundle) if args.all else [args.variant],
            warmup=args.warmup,
            runs=args.runs,
            threads=args.threads,
            progress=_progress,
            strict=not args.all,
            trust=args.trust,
            profile=args.profile,
            accelerator=args.accelerator,
        )


def _golden(args: argparse.Namespace) -> survey.GoldenReply:
    with _opened(args) as bundle:
        variants = survey.every_variant(bundle) if args.all else [args.variant]
        strict, trust = not args.all, args.trust
        return survey.golden(bundle, variants, threads=args.threads, progress=_progress, strict=strict, trust=trust)


def _verify(args: argparse.Namespace) -> survey.VerifyReply:
    with _opened(args) as bundle:
        return survey.VerifyReply(bundle.verify())


def _follow(args: argparse.Namespace) -> text_survey.TokensReply:
    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.seed)
    with _opened(args) as bundle:
        return text_survey.follow(bundle, args.prompt, _asked(args), sampling=sampling, max_tokens=args.max_tokens)


def _texts(args: argparse.Namespace) -> text_survey.TextsReply:
    with _opened(args) as bundle:
        variants = survey.every_variant(bundle) if args.all else [args.variant]
        strict, trust = not args.all, args.trust
        return text_survey.golden_texts(
            bundle, variants, threads=args.threads, progress=_progress, strict=strict, trust=trust
        )


def _bench_texts(args: argparse.Namespace) -> TextBenched:
    lengths = {"prompt_tokens": args.prompt_tokens, "new_tokens": args.new_tokens}
    with _opened(args) as bundle:
        return text_survey.bench(bundle, _asked(args), texts=args.texts, **lengths, progress=_progress)


def _asked(args: argparse.Namespace) -> text_survey.Asked:
    return text_survey.Asked(args.variant, args.threads, args.trust)


@contextmanager
def _opened(args: argparse.Namespace) -> Iterator[Bundle]:
    with Bundle.open(args.bundle) as bundle:
        check_signature(bundle, require=args.require_signature, trust=args.trust)
        yield bundle


def _prune(args: argparse.Namespace) -> Pruned:
    return prune(cache_folder(), older_than_days=args.older_than, max_bytes=args.max_bytes, everything=args.all)


def _progress(message: str) -> None:
    _say("progress", {"message": message})


def _say(event: str, content: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps({"event": event, **content}, allow_nan=False) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
