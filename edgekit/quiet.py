"""TensorFlow without its start-up notes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

_STDERR = 2


def quiet_tensorflow() -> None:
    """Import TensorFlow, where it is installed, without the start-up notes that its C++ writes to stderr.

    Nor with its warnings of functions that are traced again: each model that a build measures is.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    with Path(os.devnull).open("w") as nowhere, suppress(ImportError):
        os.dup2(nowhere.fileno(), _STDERR)
        try:
            import_module("tensorflow").config.list_physical_devices()  # looks for a GPU, and says what it misses
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)


def lean_tensorflow() -> None:
    """`quiet_tensorflow`, for a command that trains nothing.

    With oneDNN, TensorFlow's allocator keeps three times the weights and gives nothing back.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    quiet_tensorflow()


@contextmanager
def no_tensorflow_warnings() -> Iterator[None]:
    """For tools that call what TensorFlow calls deprecated."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
