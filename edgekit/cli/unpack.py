"""`edgekit unpack BUNDLE --for android -o assets/`: what an app needs, as plain files."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.cli.output import add_require_signature, emit
from edgekit.trust import check_signature
from edgekit.unpacking import APP_FORMATS, unpack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit unpack`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--for", dest="system", required=True, metavar="SYSTEM", help=f"whose app it is: {', '.join(APP_FORMATS)}"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the app's folder of assets")
    parser.add_argument("--variant", metavar="ID", help="a variant of the bundle (default: the first that apps run)")
    add_require_signature(parser)


def run(args: argparse.Namespace) -> int:
    """Write the files."""
    with Bundle.open(args.bundle) as bundle:
        check_signature(bundle, require=args.require_signature, trust=args.trust)
        done = unpack(bundle, args.output, system=args.system, variant=args.variant)
    files = [str(path) for path in done.files]
    emit(args, {"variant": done.variant, "files": files}, "\n".join([f"{done.variant}:", *files]))
    return 0
