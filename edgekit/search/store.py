"""Results by content: what was measured once for the same inputs is not measured again, whoever asks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Any: JSON

from edgekit.files import atomic, fresh_folder, write_text
from edgekit.strict import canonical_json


def key_of(*parts: object) -> str:
    """Hex sha256 over values that JSON can say."""
    return hashlib.sha256(canonical_json(parts)).hexdigest()


class Store:
    """A folder of `KEY.json`, and of folders `KEY/` with the files behind them.

    The JSON is written last, so that what a kill interrupts is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = fresh_folder(folder, keep=True)

    def get(self, key: str) -> dict[str, Any] | None:
        """What was kept under this key; None when there is nothing, or nothing that can be read."""
        try:
            content = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def put(self, key: str, content: Mapping[str, object], files: Mapping[str, bytes] | None = None) -> None:
        """Keep it. Raises OutputError."""
        for name, data in (files or {}).items():
            with atomic(self.files(key) / name) as temporary:
                temporary.write_bytes(data)
        write_text(self._path(key), json.dumps(content, sort_keys=True, allow_nan=False))

    def files(self, key: str) -> Path:
        """The folder of the files of this key."""
        return self.folder / key

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"
