"""Version numbers, compared by their release part."""

from __future__ import annotations

import re


def version_key(version: str) -> tuple[int, ...]:
    """Numbers of the release part: `2.16.1+nv24.8` -> (2, 16, 1). Trailing zeros do not count; () for no number."""
    match = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in match.group().split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
