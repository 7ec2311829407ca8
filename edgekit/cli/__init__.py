"""The command line: one module for each verb, imported when that verb is used."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NoReturn, Protocol, cast

import edgekit
from edgekit.errors import ConfigError, EdgekitError

VERBS: Mapping[str, str] = {
    "demo": "train, compress, convert, pack, run and test a small model on this machine",
    "build": "do the same for a project file: the bundle and its report",
    "search": "find the recipe of a project, or of a model, under its budgets",
    "compress": "apply a recipe of compression steps to a model",
    "convert": "convert one model to one format and precision",
    "inspect": "show what is inside a model, a converted file or a bundle",
    "run": "run a bundle once on arrays, a picture or a sound",
    "serve": "answer requests for bundles over HTTP, in the protocol of KServe and Triton",
    "compare": "compare two files of one model, at the outputs and layer by layer, or two builds",
    "report": "write the page of a build again, with devices and versions added, or one page of several builds",
    "bench": "measure a bundle's latency",
    "deploy": "install a bundle on devices, or go back to the version before",
    "test": "run the device tests on a bundle",
    "history": "show what device tests and benchmarks measured over time",
    "lease": "have a device for oneself while a command runs",
    "unpack": "write a bundle's model as plain files for an app",
    "keygen": "make a pair of keys to sign bundles with",
    "sign": "put a signature into a bundle",
    "verify": "check every member of a bundle, and its signatures",
    "devices": "list what is attached, and what it is: board, system, memory, temperature, clock",
    "board": "create, start, stop, freeze and restore virtual aarch64 boards",
    "targets": "list the device profiles, or show one",
    "cache": "list or remove the TensorRT engines that this device has built",
    "doctor": "say what works on this machine and how to get the rest",
}
INTERRUPTED = 130  # as a shell says SIGINT
PIPE_CLOSED = 141  # and SIGPIPE


class Verb(Protocol):
    """A verb's module."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments; --json and --verbose are there already."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code. Raises EdgekitError on the user's mistake."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns 0 done, 1 a budget or test failed, 2 the user's mistake, 3 device trouble, 130 stopped."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        args = _parse(words)
        logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(name)s: %(message)s")
        return _load(args.verb).run(args)
    except EdgekitError as problem:
        return _fail(words, type(problem).__name__, str(problem), problem.exit_code)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return _fail(words, "KeyboardInterrupt", "interrupted", INTERRUPTED)


class _Parser(argparse.ArgumentParser):
    """Says a wrong argument as any other mistake of the user: one line, or JSON."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parse(words: Sequence[str]) -> argparse.Namespace:
    description = "Make Keras models small and fast, and prove it on devices."
    parser = _Parser(prog="edgekit", description=description, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"edgekit {edgekit.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    chosen = next((word for word in words if not word.startswith("-")), None)
    for verb, summary in VERBS.items():
        described = summary[0].upper() + summary[1:] + "."
        verb_parser = verbs.add_parser(verb, help=summary, description=described, allow_abbrev=False)
        if verb == chosen:
            verb_parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
            verb_parser.add_argument("-v", "--verbose", action="store_true", help="log what is done, on stderr")
            _load(verb).add_arguments(verb_parser)
    return parser.parse_args(words)


def _load(verb: str) -> Verb:
    return cast(Verb, import_module(f"edgekit.cli.{verb}"))


def _fail(words: Sequence[str], kind: str, message: str, code: int) -> int:
    line = " ".join(message.split())
    if "--json" in words:
        print(json.dumps({"error": {"type": kind, "message": line}}))
    else:
        print(f"error: {line}", file=sys.stderr)
    return code
