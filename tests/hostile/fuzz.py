"""Coverage-guided fuzzing of the bundle's reader; needs the extra `fuzz`.

    python -m tests.hostile.fuzz tests/hostile/corpus -max_total_time=300

Each input is read as a bundle, and as the manifest and the signatures of a bundle whose checksums are right. New inputs
that reach new code are added to the folder. Whatever comes out but a BundleError is a fault of the reader, and ends the
run with its input.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["zipfile", "json", "edgekit"]):
    from edgekit.bundle import Bundle
    from edgekit.errors import BundleError
    from tests.hostile.make import signed, written

SCRATCH = Path(tempfile.mkdtemp(prefix="edgekit-fuzz-"), "x.edgekit")


def fuzz(content: bytes) -> None:
    """Three readings of one input."""
    for bundle in (content, written(content), signed(content)):
        read(bundle)


def read(content: bytes) -> None:
    """Open and verify; a refusal is as good as success."""
    SCRATCH.write_bytes(content)
    try:
        with Bundle.open(SCRATCH) as bundle:
            bundle.verify()
    except BundleError as refusal:
        if not str(refusal).isprintable():
            raise ValueError("a refusal that does not print") from refusal


if __name__ == "__main__":
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
