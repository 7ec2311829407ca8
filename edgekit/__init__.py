"""edgekit: make a trained Keras model small and fast, pack it for edge devices, run it, and test it there.

Root names load on first use, so that `import edgekit` costs nothing and the device side needs numpy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from edgekit.compression import Cluster as Cluster
    from edgekit.compression import Distill as Distill
    from edgekit.compression import Factorize as Factorize
    from edgekit.compression import Prune as Prune
    from edgekit.compression import PruneChannels as PruneChannels
    from edgekit.compression import QuantizeAware as QuantizeAware
    from edgekit.compression import QuantizeWeights as QuantizeWeights
    from edgekit.compression import TrainingSettings as TrainingSettings
    from edgekit.compression import compress as compress
    from edgekit.decoders.building import build_language as build_language
    from edgekit.decoders.settings import LanguageSettings as LanguageSettings
    from edgekit.loading import load as load
    from edgekit.metadata import InputSettings as InputSettings
    from edgekit.metadata import MetadataSettings as MetadataSettings
    from edgekit.metadata import OutputSettings as OutputSettings
    from edgekit.pipeline import build as build
    from edgekit.preprocessing.declared import Audio as Audio
    from edgekit.preprocessing.declared import LogMel as LogMel
    from edgekit.preprocessing.declared import Picture as Picture
    from edgekit.preprocessing.declared import Preprocessing as Preprocessing
    from edgekit.runtime import open_bundle as open_bundle
    from edgekit.search import find_recipe as find_recipe

__version__ = "0.1.0"

_HOMES = {
    "Audio": "edgekit.preprocessing.declared",
    "Cluster": "edgekit.compression",
    "Distill": "edgekit.compression",
    "Factorize": "edgekit.compression",
    "InputSettings": "edgekit.metadata",
    "LanguageSettings": "edgekit.decoders.settings",
    "LogMel": "edgekit.preprocessing.declared",
    "MetadataSettings": "edgekit.metadata",
    "OutputSettings": "edgekit.metadata",
    "Picture": "edgekit.preprocessing.declared",
    "Preprocessing": "edgekit.preprocessing.declared",
    "Prune": "edgekit.compression",
    "PruneChannels": "edgekit.compression",
    "QuantizeAware": "edgekit.compression",
    "QuantizeWeights": "edgekit.compression",
    "TrainingSettings": "edgekit.compression",
    "build": "edgekit.pipeline",
    "build_language": "edgekit.decoders.building",
    "compress": "edgekit.compression",
    "find_recipe": "edgekit.search",
    "load": "edgekit.loading",
    "open_bundle": "edgekit.runtime",
}

__all__ = [  # loaded by __getattr__
    "Audio",
    "Cluster",
    "Distill",
    "EdgekitError",
    "Factorize",
    "InputSettings",
    "LanguageSettings",
    "LogMel",
    "MetadataSettings",
    "OutputSettings",
    "Picture",
    "Preprocessing",
    "Prune",
    "PruneChannels",
    "QuantizeAware",
    "QuantizeWeights",
    "TrainingSettings",
    "__version__",
    "build",
    "build_language",
    "compress",
    "find_recipe",
    "load",
    "open_bundle",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        import importlib

        if name not in _HOMES:
            raise AttributeError(f"module 'edgekit' has no attribute '{name}'")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
