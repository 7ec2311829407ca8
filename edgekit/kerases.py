"""Both Kerases, imported on first use: Keras 3, in which edgekit works, and tf_keras (Keras 2), which it reads."""

from __future__ import annotations

from typing import Any  # Any: modules without types

from edgekit.errors import EngineError


def import_keras() -> Any:
    """Keras 3 on its TensorFlow backend, which the exporters need. Raises EngineError with what to do."""
    try:
        import keras
    except ImportError as problem:
        raise EngineError(f'Keras 3 is not installed ({problem}): pip install "edgekit[host]"') from problem
    if not keras.__version__.startswith("3.") or keras.backend.backend() != "tensorflow":
        raise EngineError(
            f"Keras {keras.__version__} on {keras.backend.backend()}, expected Keras 3 on tensorflow; "
            "unset KERAS_BACKEND or set it to tensorflow"
        )
    return keras


def import_tf_keras() -> Any:
    """tf_keras, which lives beside Keras 3 in one process. Raises EngineError with what to do."""
    try:
        import tf_keras
    except ImportError as problem:
        raise EngineError(f'tf_keras is not installed ({problem}): pip install "edgekit[tfmot]"') from problem
    return tf_keras
