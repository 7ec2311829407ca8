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
from edgekit.runtime import survey
from edgekit.runtime.arrays import read_inputs, write_npz
from edgekit.runtime.opening import open_session
from edgekit.runtime.sequences import run_samples
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
    _with_bundle(commands.add_parser("verify"), _verify)
    commands.add_parser("cache-list").set_defaults(answer=lambda _: list_cache(cache_folder()))
    pruning = commands.add_parser("cache-prune")
    pruning.add_argument("--older-than", type=float)
    pruning.add_argument("--max-bytes", type=int)
    pruning.add_argument("--all", action="store_true")
    pruning.set_defaults(answer=_prune)
    return parser


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
    with (
        _opened(args) as bundle,
        open_session(bundle, variant=args.variant, threads=args.threads, trust=args.trust) as session,
    ):
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
        )


def _golden(args: argparse.Namespace) -> survey.GoldenReply:
    with _opened(args) as bundle:
        variants = survey.every_variant(bundle) if args.all else [args.variant]
        strict, trust = not args.all, args.trust
        return survey.golden(bundle, variants, threads=args.threads, progress=_progress, strict=strict, trust=trust)


def _verify(args: argparse.Namespace) -> survey.VerifyReply:
    with _opened(args) as bundle:
        return survey.VerifyReply(bundle.verify())


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
