"""A folder of hostile bundles: each is refused in words, before anything of it is used."""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.errors import BundleError
from tests.hostile.make import FOLDER, attacks, entries, signed, written, zipped

ATTACKS = attacks()
LIMIT_BYTES = 40 << 20  # more than the largest manifest that is read, parsed


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_refused(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BundleError) as caught, Bundle.open(FOLDER / name) as bundle:
            bundle.verify()
        assert tracemalloc.get_traced_memory()[1] < LIMIT_BYTES
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(name)
    assert re.search(ATTACKS[name].words, message), message
    assert message.isprintable(), "what a bundle holds must not reach a terminal"


def test_the_good_bundle_behind_them_is_good(tmp_path: Path) -> None:
    (tmp_path / "good.edgekit").write_bytes(zipped(entries()))
    with Bundle.open(tmp_path / "good.edgekit") as bundle:
        assert len(bundle.verify()) == 2


def test_the_folder_holds_what_the_maker_makes() -> None:
    stored = {path.name: path.read_bytes() for path in FOLDER.glob("*.edgekit")}
    assert sorted(stored) == sorted(ATTACKS)
    deflated = {name for name in stored if "bomb" in name or name in ("bzip2.edgekit", "lzma.edgekit")}
    for name in stored.keys() - deflated:  # another zlib may deflate to other bytes
        assert stored[name] == ATTACKS[name].content, name


@pytest.mark.parametrize("path", sorted((FOLDER / "corpus").iterdir()), ids=lambda path: path.name[:8])
def test_what_fuzzing_found_is_read_or_refused(path: Path, tmp_path: Path) -> None:
    content, bundle_path = path.read_bytes(), tmp_path / "x.edgekit"
    for wrapped in (content, written(content), signed(content)):
        bundle_path.write_bytes(wrapped)
        with contextlib.suppress(BundleError), Bundle.open(bundle_path) as bundle:
            bundle.verify()
