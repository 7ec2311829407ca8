"""Run by `edgekit.workers`: LiteRT opens a file here first, since a damaged one can crash or fill its process."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.admission import available_bytes
from edgekit_tflite.reading import check_opens

LEAST_LIMIT_BYTES = 1 << 30  # what the packages themselves need, with room


def open_file(request: dict[str, Any]) -> dict[str, object]:
    """`path`; replies nothing when LiteRT opens it, within the memory that is free."""
    limit = max(LEAST_LIMIT_BYTES, available_bytes())
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    check_opens(Path(request["path"]))
    return {}


if __name__ == "__main__":
    workers.serve(open_file)
