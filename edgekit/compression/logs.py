"""What each epoch gave, as TensorBoard reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any  # Any: a tf.summary writer

from edgekit.errors import OutputError

_DATA_CLASS_SCALAR = 1  # of tensorboard's summary.proto


class EpochLog:
    """Event files in `folder/<the step's description>`; without a folder it writes nothing."""

    def __init__(self, folder: str | None, description: str) -> None:
        """Raises OutputError when the folder cannot be written to."""
        self._writer: Any = None
        if folder is None:
            return
        import tensorflow as tf

        path = Path(folder, re.sub(r"[^A-Za-z0-9]+", "-", description).strip("-"))
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._writer = tf.summary.create_file_writer(str(path))
        except (OSError, tf.errors.OpError) as problem:
            raise OutputError(
                f"cannot write TensorBoard files to {path}: {problem}; choose another folder"
            ) from problem

    def __enter__(self) -> EpochLog:
        return self

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """One point for each value."""
        if self._writer is None:
            return
        import tensorflow as tf

        with self._writer.as_default(step=epoch):
            for name, value in values.items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=_as_scalar())
        self._writer.flush()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def _as_scalar() -> Any:
    """How TensorBoard knows a scalar; written here, since `tf.summary.scalar` needs TensorBoard itself."""
    from tensorflow.compat.v1 import SummaryMetadata

    plugin = SummaryMetadata.PluginData(plugin_name="scalars")
    return SummaryMetadata(plugin_data=plugin, data_class=_DATA_CLASS_SCALAR)
