"""Rated snippets of movie reviews, read from the source archive of the package vaderSentiment 3.3.2 (MIT).

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
_MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


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
    if not ARCHIVE.is_file():
        raise SystemExit(GET)
    with tarfile.open(ARCHIVE) as outer:
        inner = outer.extractfile(_INNER)
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive:
            member = archive.extractfile(_MEMBER)
            assert member is not None
            rows = [line.split("\t") for line in member.read().decode().splitlines()]
    order = np.random.default_rng(seed).permutation(len(rows))
    labels = np.array([float(score) > 0 for _, score, _ in rows], np.int64)
    return Reviews(tuple(rows[row][2] for row in order), labels[order])
