"""The process in which pretrained weights become a decoder's SavedModel: what it took is free when converters begin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any  # Any: JSON

from edgekit import workers
from edgekit.conversion import Source
from edgekit.errors import ModelError
from edgekit.strict import parse

_WORKER = "edgekit.decoding_worker"
_TIMEOUT_S = 1800.0
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # with oneDNN, its allocator keeps three times the weights
    "MALLOC_MMAP_THRESHOLD_": "65536",  # glibc: a matrix that is freed goes back at once
}


def export_apart(path: Path, work: Path, *, format_name: str, context: int, prefill: int) -> Source:
    """What `export_decoder` makes of a folder of weights or a GGUF file for "tflite", `export_with_past` for "onnx".

    Raises what `edgekit.load` and these raise.
    """
    request = {
        "path": str(path), "work": str(work), "format": format_name, "context": context, "prefill": prefill,
    }  # fmt: skip
    reply = workers.call(
        _WORKER, request, timeout_s=_TIMEOUT_S, what=f"loading {path}", error=ModelError, environment=_ENVIRONMENT
    )
    return parse(Source, reply, where=path.name)


def main(request: dict[str, Any]) -> Mapping[str, object]:
    """The arguments of `export_apart`; replies the Source."""
    from edgekit.decoding import export_decoder
    from edgekit.decoding_past import export_with_past
    from edgekit.language import TOKENS
    from edgekit.loading import load

    context, work = request["context"], Path(request["work"])
    loaded = load(request["path"], lengths={TOKENS: context})
    if request["format"] == "tflite":
        source = export_decoder(loaded, work, context=context, prefill=request["prefill"])
    else:
        source = export_with_past(loaded, work, context=context)
    described: dict[str, object] = json.loads(json.dumps(asdict(source), default=str))  # a path becomes its text
    return described


if __name__ == "__main__":
    workers.serve(main)
