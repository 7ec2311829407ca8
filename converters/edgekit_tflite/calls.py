"""How the converter calls its workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: JSON

from edgekit import workers
from edgekit.errors import ConversionError

_TIMEOUT_S = 1800.0
# With TF_USE_LEGACY_KERAS TensorFlow does not import Keras 3, which a conversion does not need: a third of its time.
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"}


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
