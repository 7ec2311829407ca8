"""A bundle of 3 GB is made and verified in pieces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_MIB = 200
WORK = """
import dataclasses, sys
from pathlib import Path
from edgekit.bundle import Bundle, write_bundle
from edgekit.files import sha256_file
from edgekit.runtime.memory import peak_rss_bytes
from tests.hostile.make import CONTENTS, GOLDEN, MODEL
from tests.tiny_models import Part, manifest_of

folder = Path(sys.argv[1])
large, golden = folder / MODEL, folder / GOLDEN
golden.write_bytes(CONTENTS[GOLDEN])
with large.open("wb") as stream:
    stream.truncate(3 << 30)
variant = Part("tflite", "int8", b"", "litert", "int8").variant()
member = dataclasses.replace(variant.member, sha256=sha256_file(large), bytes=3 << 30)
manifest = manifest_of((dataclasses.replace(variant, member=member),), golden.read_bytes())
write_bundle(folder / "large.edgekit", manifest, {MODEL: large, GOLDEN: golden})
with Bundle.open(folder / "large.edgekit") as bundle:
    print(sum(member.bytes for member in bundle.verify()))
print(peak_rss_bytes() >> 20)
"""


@pytest.mark.slow
def test_three_gigabytes_in_little_memory(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True
    )
    verified, peak_mib = map(int, done.stdout.split())
    assert verified > 3 << 30
    assert peak_mib < LIMIT_MIB
