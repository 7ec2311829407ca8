"""How figures and words are written in the page and in the comment; what was not measured is a dash."""

from __future__ import annotations

import re

NONE = "–"
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain(text: str) -> str:
    """Without the characters that XML has no form for."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def percent(value: float | None) -> str:
    """A fraction: "97.7 %"."""
    return NONE if value is None else f"{100 * value:.1f} %"


def points(value: float | None) -> str:
    """A difference of fractions, in points of a hundred with its sign: "+0.4"."""
    if value is None:
        return NONE
    written = f"{100 * value:+.1f}"
    return "0.0" if float(written) == 0 else written


def milliseconds(value: float | None) -> str:
    """Three digits behind the point, or as many as a small figure needs."""
    return NONE if value is None else f"{value:.3f}" if value >= 0.1 else f"{value:.4f}"


def kilobytes(value: float | None) -> str:
    """Thousands of bytes: "1,234.5"."""
    return NONE if value is None else f"{value / 1000:,.1f}"


def decibels(value: float | None) -> str:
    """One digit behind the point."""
    return NONE if value is None else f"{value:.1f}"


def cosine(value: float | None) -> str:
    """Six digits behind the point."""
    return NONE if value is None else f"{value:.6f}"


def times(value: float | None) -> str:
    """How many times as small or as fast: "12.6 ×"."""
    return NONE if value is None else f"{value:.1f} ×"


def number(value: float | None) -> str:
    """Any figure beside a limit."""
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
