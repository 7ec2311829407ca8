"""`edgekit keygen NAME`: a pair of keys to sign bundles with."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edgekit.cli.output import emit
from edgekit.errors import ConfigError
from edgekit.keys import PRIVATE_SUFFIX, PUBLIC_SUFFIX
from edgekit.signing import make_keys

PASSPHRASE = "EDGEKIT_KEY_PASSPHRASE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit keygen`."""
    parser.add_argument(
        "name", metavar="NAME",
        help=f"writes NAME.key, which stays secret, and NAME.pub; ${PASSPHRASE} encrypts the first",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR", help="where (default: here)")


def run(args: argparse.Namespace) -> int:
    """Make the keys."""
    if Path(args.name).name != args.name or args.name.startswith("."):
        raise ConfigError(f"the key's name is '{args.name}', expected one without folders; give those with -o")
    identity = make_keys(args.output, args.name, passphrase=passphrase())
    private, public = args.output / f"{args.name}{PRIVATE_SUFFIX}", args.output / f"{args.name}{PUBLIC_SUFFIX}"
    text = f"key {identity}\n{private}: keep it secret\n{public}: put it into the trust folder of each device"
    emit(args, {"key_id": identity, "private": str(private), "public": str(public)}, text)
    return 0


def passphrase() -> bytes | None:
    """Of private keys, from the environment: not from the command line, which others can see."""
    word = os.environ.get(PASSPHRASE)
    return word.encode() if word else None
