"""Killed at any moment, what writes bundles never leaves one that opens and lies."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.signing import make_keys
from edgekit.unpacking import unpack
from tests.tiny_models import pack

KILLS = 100
LONGEST_S = 0.2

WORK = """
import itertools, sys
from pathlib import Path
from edgekit.bundle import Bundle, write_bundle
from edgekit.signing import sign_bundle
from edgekit.unpacking import unpack

folder = Path(sys.argv[1])
bundle, members = folder / "tiny-1.0.0.edgekit", folder / "members"
with Bundle.open(bundle) as opened:
    manifest, files = opened.manifest, {name: members / name for name in opened.packed_bytes()}
print("ready", flush=True)
for turn in itertools.count():
    sign_bundle(bundle, [folder / f"{turn % 2}.key"])
    with Bundle.open(bundle) as opened:
        unpack(opened, folder / "assets", system="android")
    write_bundle(bundle, manifest, files)
"""


@pytest.mark.slow
def test_no_kill_leaves_a_bundle_that_lies(tmp_path: Path) -> None:
    path = pack(tmp_path)
    for name in ("0", "1"):
        make_keys(tmp_path, name)
    with Bundle.open(path) as bundle:
        whole = unpack(bundle, tmp_path / "whole", system="android")
    expected = {file.relative_to(tmp_path / "whole"): file.read_bytes() for file in whole.files}
    chance, found = random.Random(0), set()
    for _ in range(KILLS):
        with subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, LONGEST_S))
            process.kill()
        with Bundle.open(path) as bundle:
            bundle.verify()
            found.add(len(bundle.signatures))
        for name, content in expected.items():
            asset = tmp_path / "assets" / name
            assert not asset.exists() or asset.read_bytes() == content
    assert found >= {0, 1}, "killed before and after a signature"
