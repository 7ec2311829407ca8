"""Keras 3 to tf_keras (Keras 2) and back, by replaying the layer graph.

    legacy = edgekit.bridge.to_tf_keras(model)        # weights, names and structure are kept
    model = edgekit.bridge.from_tf_keras(legacy)
    edgekit.bridge.teach(MyLayer, MyLegacyLayer)      # a layer of your own, in both directions

Both Kerases may be imported in one process. Only TFMOT needs TF_USE_LEGACY_KERAS=1 before tensorflow is imported;
`edgekit.compression.tfmot` runs it in a process of its own.
"""

from edgekit.bridge.from_tf_keras import from_tf_keras
from edgekit.bridge.lessons import teach
from edgekit.bridge.to_tf_keras import to_tf_keras

__all__ = ["from_tf_keras", "teach", "to_tf_keras"]
