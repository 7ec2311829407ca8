"""Keras 3 to tf_keras (Keras 2), by replaying the layer graph.

Only for a process of its own: tf_keras needs TF_USE_LEGACY_KERAS=1 before tensorflow is imported, which must not
happen in the user's Keras 3 session. `edgekit.compression.tfmot` starts that process.
"""

from edgekit.bridge.replay import to_tf_keras

__all__ = ["to_tf_keras"]
