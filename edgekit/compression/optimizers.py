"""The optimizer of every fine-tuning: Adam (Kingma & Ba 2015) with a cosine decay to zero."""

from __future__ import annotations

from typing import Any  # Any: keras optimizers and variables, which have no types

from edgekit.compression.collectives import Team, averaging
from edgekit.loading import import_keras


def optimizer(learning_rate: float, steps: int, *, half: bool, team: Team | None, weight: Any) -> Any:
    """Decays from `learning_rate` over so many steps; behind a loss scale in `half` precision.

    The workers of a `team` apply their mean gradient, each counting by its `weight` (`Team.weight`).
    """
    optimizers = import_keras().optimizers
    schedule = optimizers.schedules.CosineDecay(learning_rate, steps)
    kind, argument = adam(), schedule
    if half:
        kind, argument = optimizers.LossScaleOptimizer, kind(schedule)
    if team is not None:
        kind = averaging(kind, team, weight)
    return kind(argument)


def adam() -> Any:
    """Keras's Adam, whose update of a variable is TensorFlow's one kernel for it instead of a dozen operations.

    The arithmetic is the same; large variables are gone through once instead of once for each operation. Rows that come
    several times in a sparse gradient (an Embedding's) count with their sum; Keras 3.15 squares each by itself.
    """
    import tensorflow as tf

    class Adam(import_keras().optimizers.Adam):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            """As Keras calls it, with a `tf.Variable`."""
            if tf.distribute.has_strategy():  # whose variables have a copy on each device, and no handle of their own
                super().update_step(gradient, variable, learning_rate)
                return
            index, dtype = self._get_variable_index(variable), variable.dtype
            step = tf.cast(self.iterations.value + 1, dtype)
            beta_1, beta_2 = tf.constant(self.beta_1, dtype), tf.constant(self.beta_2, dtype)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=self._momentums[index].value.handle, v=self._velocities[index].value.handle,
                beta1_power=tf.pow(beta_1, step), beta2_power=tf.pow(beta_2, step),
                lr=tf.cast(learning_rate, dtype), beta1=beta_1, beta2=beta_2, epsilon=tf.constant(self.epsilon, dtype),
                grad=tf.cast(tf.convert_to_tensor(gradient), dtype),
            )  # fmt: skip

    return Adam
