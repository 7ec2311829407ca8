"""Rated snippets of movie reviews, read from the source archive of the package vaderSentiment 3.3.2 (MIT), and the text
of product reviews and newspaper editorials beside them.

`make reviews` puts the archive where it is looked for. Each snippet was rated by twenty people from -4 to 4 (Hutto and
Gilbert 2014); its label is whether their mean is above 0.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ARCHIVE = Path(__file__).parents[1] / "out" / "data" / "vaderSentiment-3.3.2.tar.gz"
GET = f"no {ARCHIVE}: run `make reviews`"
_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_MOVIES, *_OTHERS = (
    f"hutto_ICWSM_2014/{kind}Snippets_GroundTruth.txt" for kind in ("movieReview", "amazonReview", "nytEditorial")
)


@dataclass(frozen=True)
class Reviews:
    """Texts and labels, in one order."""

    texts: tuple[str, ...]
    labels: NDArray[np.int64]  # 1 for a favourable snippet

    def part(self, first: int, last: int) -> Reviews:
        """Some of them."""
        return Reviews(self.texts[first:last], self.labels[first:last])


def load_reviews(seed: int = 0) -> Reviews:
    """All 10,605 snippets, shuffled: neighbours are of one review."""
    rows = _rows(_MOVIES)
    order = np.random.default_rng(seed).permutation(len(rows))
    labels = np.array([float(score) > 0 for _, score, _ in rows], np.int64)
    return Reviews(tuple(rows[row][2] for row in order), labels[order])


def load_prose() -> tuple[str, ...]:
    """The 19,503 snippets of all three sources, each source in its own order: neighbours are of one text."""
    return tuple(text for member in (_MOVIES, *_OTHERS) for _, _, text in _rows(member))


def _rows(member: str) -> list[list[str]]:
    """(number, rating, text) of each line of a file in the archive."""
    if not ARCHIVE.is_file():
        raise SystemExit(GET)
    with tarfile.open(ARCHIVE) as outer:
        inner = outer.extractfile(_INNER)
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive:
            file = archive.extractfile(member)
            assert file is not None
            return [line.split("\t") for line in file.read().decode().splitlines()]
