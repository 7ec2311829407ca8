"""What a verb prints on stdout: one JSON object under --json, else text."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from edgekit.errors import ConfigError
from edgekit.quiet import lean_tensorflow as lean_tensorflow
from edgekit.quiet import quiet_tensorflow as quiet_tensorflow


class Trust(TypedDict):
    """See `trust_of`."""

    require_signature: bool
    trust: Path | None


def emit(args: argparse.Namespace, result: Mapping[str, object], text: str) -> None:
    """Print `result` as one JSON object when --json was given, else `text`.

    JSON has no NaN and no infinity: such a figure, of a model whose outputs are not finite, is null.
    """
    print(json.dumps(_finite(result), allow_nan=False) if args.json else text, flush=True)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def progress(message: str) -> None:
    """One line on stderr."""
    print(message, file=sys.stderr, flush=True)


def add_allow_code(parser: argparse.ArgumentParser) -> None:
    """Declare --allow-code."""
    parser.add_argument(
        "--allow-code", action="store_true", help="load a model file that carries code; only if you trust it"
    )


def add_architecture(parser: argparse.ArgumentParser) -> None:
    """Declare --architecture."""
    parser.add_argument(
        "--architecture", metavar="MODULE:FUNCTION", help="builds the model whose weights alone the file holds"
    )


def add_require_signature(parser: argparse.ArgumentParser) -> None:
    """Declare --require-signature and --trust."""
    parser.add_argument("--require-signature", action="store_true", help="refuse a bundle that no trusted key signed")
    parser.add_argument(
        "--trust", type=Path, metavar="DIR",
        help="a folder of trusted .pub keys (default: ~/.config/edgekit/trust and /etc/edgekit/trust)",
    )  # fmt: skip


def add_vendor_wheels(parser: argparse.ArgumentParser) -> None:
    """Declare --vendor-wheels."""
    parser.add_argument(
        "--vendor-wheels", type=Path, metavar="DIR",
        help="wheels that go to the device along with the bundle, where numpy or an engine is not installed",
    )  # fmt: skip


def add_accelerator(parser: argparse.ArgumentParser) -> None:
    """Declare --accelerator."""
    parser.add_argument(
        "--accelerator", metavar="WORD",
        help="run on this and nothing else: cpu (in LiteRT without XNNPACK), xnnpack, cuda, or the path of a LiteRT "
        "delegate's library there",
    )  # fmt: skip


def trust_of(args: argparse.Namespace) -> Trust:
    """What --require-signature and --trust say, as the keyword arguments of `open_bundle` and `deploy`."""
    return {"require_signature": args.require_signature, "trust": args.trust}


def add_lengths(parser: argparse.ArgumentParser) -> None:
    """Declare --length."""
    parser.add_argument(
        "--length", action="append", metavar="INPUT=N", help="of what an input leaves open: tokens=128, tokens=128,64, "
        "image=224x320; repeatable",
    )  # fmt: skip


def lengths_of(args: argparse.Namespace) -> dict[str, list[str]]:
    """What --length says, as `edgekit.load` takes it. Raises ConfigError."""
    found = {}
    for word in args.length or ():
        name, equals, lengths = word.partition("=")
        if not (name and equals and lengths):
            raise ConfigError(f"--length is '{word}', expected INPUT=N, for example tokens=128")
        found[name] = lengths.split(",")
    return found
