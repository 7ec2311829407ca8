"""How BatchNormalization computes while a model trains: in one operation, or with the statistics that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any  # Any: keras layers and tensors, which have no types

from edgekit.loading import import_keras


@contextmanager
def fused_normalization(model: Any) -> Iterator[None]:
    """While it lasts, the BatchNormalization layers on images compute with TensorFlow's fused operation.

    Outputs, gradients and moving averages are Keras's within rounding. On a CPU, Keras 3 spends a third of a
    convolutional network's training step on the dozen operations that this one replaces.
    """
    with _computing(filter(_is_fit, _layers(model)), _fused):
        yield


@contextmanager
def frozen_statistics(model: Any) -> Iterator[None]:
    """While it lasts, BatchNormalization uses its moving averages in training too, and does not change them.

    Its factors and shifts are trained as ever.
    """
    with _computing(_layers(model), _with_moving_averages):
        yield


@contextmanager
def _computing(layers: Iterator[Any], way: Callable[[Any], Callable[..., Any]]) -> Iterator[None]:
    changed = list(layers)
    try:
        for layer in changed:
            layer.call = way(layer)
        yield
    finally:
        for layer in changed:
            del layer.call  # the class's own again


def _layers(model: Any) -> Iterator[Any]:
    kind = import_keras().layers.BatchNormalization
    return (layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, kind))


def _is_fit(layer: Any) -> bool:
    kind = import_keras().layers.BatchNormalization
    return type(layer) is kind and layer.input_spec.ndim == 4 and layer.axis in (-1, 3) and not layer.synchronized


def _with_moving_averages(layer: Any) -> Callable[..., Any]:
    plain = layer.call

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ARG001  # Keras's signature
        return plain(inputs, training=False, mask=mask)

    return call


def _fused(layer: Any) -> Callable[..., Any]:
    import tensorflow as tf

    plain = layer.call

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training or not layer.trainable or mask is not None:
            return plain(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones(channels) if layer.gamma is None else tf.convert_to_tensor(layer.gamma),
            offset=tf.zeros(channels) if layer.beta is None else tf.convert_to_tensor(layer.beta),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=layer.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // channels, tf.float32)
        variance *= (
            tf.maximum(count - 1, 1) / count
        )  # Keras's is the mean square, the operation's the unbiased estimate
        for average, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            average.assign(average * layer.momentum + value * (1 - layer.momentum))
        return outputs

    return call
