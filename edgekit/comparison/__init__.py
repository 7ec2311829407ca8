"""How near one run of a model is to another: at its outputs, and layer by layer."""

from edgekit.comparison.layers import Cause, LayerComparison, LayerParity, Reason
from edgekit.comparison.parity import Parity, compare_outputs, top1_classes

__all__ = ["Cause", "LayerComparison", "LayerParity", "Parity", "Reason", "compare_outputs", "top1_classes"]
