"""`edgekit verify BUNDLE`: is every member what was built, and who says so?"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.cli.output import add_require_signature, emit
from edgekit.trust import check_signature, describe, signers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `edgekit verify`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    add_require_signature(parser)


def run(args: argparse.Namespace) -> int:
    """Check every member's sha256, and what each signature is worth here."""
    with Bundle.open(args.bundle) as bundle:
        members = bundle.verify()
        check_signature(bundle, require=args.require_signature, trust=args.trust)
        found = signers(bundle, trust=args.trust)
    text = f"{args.bundle.name}: {len(members)} members, each as the manifest says; {describe(found)}"
    emit(args, {"members": len(members), "signatures": [dataclasses.asdict(it) for it in found]}, text)
    return 0
