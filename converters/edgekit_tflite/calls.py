"""How the converter calls its workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: JSON

from edgekit import workers
from edgekit.errors import ConversionError

_TIMEOUT_S = 1800.0
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_USE_LEGACY_KERAS": "1",  # TensorFlow then leaves out Keras 3: a third of the time that its import takes
    "OPENBLAS_NUM_THREADS": "1",  # its threads, waiting, take processors from LiteRT's and from other conversions
    "TF_ENABLE_ONEDNN_OPTS": "0",  # with oneDNN, its allocator keeps three times the weights, and never gives them back
}


def call(worker: str, request: Mapping[str, object], *, what: str) -> dict[str, Any]:
    """Run one of this folder's workers, and give its reply. Raises ConversionError; `what` names the work in it."""
    return workers.call(
        f"edgekit_tflite.{worker}",
        request,
        timeout_s=_TIMEOUT_S,
        what=what,
        error=ConversionError,
        environment=_ENVIRONMENT,
    )
