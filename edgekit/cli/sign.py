"""`edgekit sign BUNDLE --key NAME.key`: put a signature into a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgekit.cli.keygen import passphrase
from edgekit.cli.output import emit
from edgekit.signing import sign_bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit sign`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--key", type=Path, required=True, action="append", metavar="FILE", help="a private key; repeatable"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there (default: the bundle itself)")


def run(args: argparse.Namespace) -> int:
    """Verify the bundle's members and sign its manifest."""
    signed_by = sign_bundle(args.bundle, args.key, output=args.output, passphrase=passphrase())
    output = args.output or args.bundle
    emit(args, {"bundle": str(output), "signed_by": signed_by}, f"{output}: signed by {', '.join(signed_by)}")
    return 0
