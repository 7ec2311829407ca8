"""Several processes that train one model: each takes its share of every batch, and all apply the mean gradient.

The processes are a cluster of TensorFlow's `tf.distribute.MultiWorkerMirroredStrategy`, whose server and collective
operations are used. Keras 3's own `fit` does not run under that strategy (3.15 fails on its first batch, in
`_maybe_symbolic_build`: "Attempt to convert a value (PerReplica…)"), so models stay ordinary ones, equal in all
processes, and the optimizer exchanges gradients before it applies them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any  # Any: tensors and keras optimizers, which have no types

import numpy as np

from edgekit.errors import ConfigError
from edgekit.tensors import Array

ENVIRONMENT = "TF_CONFIG"  # TensorFlow's own way to say who is in a cluster

_GROUP = 1  # the key of all workers together
_TIMEOUT_S = 600.0  # how long a worker waits for the others in one step


@dataclass(frozen=True)
class Team:
    """This process's place among the workers."""

    workers: int
    index: int

    @property
    def chief(self) -> bool:
        """The one that writes files."""
        return self.index == 0

    def share(self, rows: Array) -> Array:
        """This worker's rows of a batch: one at least, so that every worker has something to compute."""
        own = rows[self.index :: self.workers]
        return own if len(own) else rows[:1]

    def weight(self, samples: int) -> float:
        """What this worker's mean gradient counts in the mean over the workers, for a batch of so many samples."""
        own = len(range(self.index, samples, self.workers))
        return self.workers * own / samples

    def mean(self, values: Sequence[Any]) -> list[Any]:
        """The mean of each tensor over all workers, in one exchange.

        TensorFlow wants one shape for all exchanges of one key, so the key is the number of values.
        """
        import tensorflow as tf

        sizes = [int(np.prod(value.shape)) for value in values]
        flat = tf.concat([tf.reshape(tf.cast(value, tf.float32), [-1]) for value in values], 0)
        total = tf.raw_ops.CollectiveReduceV2(
            input=flat, group_size=self.workers, group_key=_GROUP, instance_key=sum(sizes), ordering_token=[],
            merge_op="Add", final_op="Div", communication_hint="auto", timeout_seconds=_TIMEOUT_S,
        )  # fmt: skip
        parts = tf.split(total, sizes)
        return [tf.reshape(part, value.shape) for part, value in zip(parts, values, strict=True)]

    def agree(self, value: float, what: str) -> float:
        """The mean of a number over all workers. Raises ConfigError when `what` must be equal and is not."""
        mean = float(self.mean([np.float32(value)])[0])
        if what and mean != value:
            raise ConfigError(f"{what} is {value:g} here and {mean:g} on average over the workers; {_SHARED}")
        return mean


_SHARED = "keep the checkpoints folder where every worker reads the same"


def join() -> Team:
    """Enter the cluster that TF_CONFIG names; before anything else is done with TensorFlow."""
    import tensorflow as tf

    config = json.loads(os.environ[ENVIRONMENT])
    tf.distribute.MultiWorkerMirroredStrategy()  # starts this worker's server and waits for the others
    return Team(len(config["cluster"]["worker"]), int(config["task"]["index"]))


def averaging(kind: type[Any], team: Team, weight: Any) -> type[Any]:
    """The optimizer class `kind`, applying the mean gradient of all workers.

    `weight` is a variable that holds `Team.weight` of the batch.
    """

    class Averaging(kind):  # type: ignore[misc]
        def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> Any:
            """Exchange, then apply."""
            import tensorflow as tf

            present = [tf.convert_to_tensor(gradient) * weight for gradient in grads if gradient is not None]
            mean = iter(team.mean(present))
            averaged = [None if gradient is None else next(mean) for gradient in grads]
            return super().apply(averaged, trainable_variables)

    return Averaging
