"""In TFMOT's process: quantization-aware training of the layers that TFMOT takes, and the ranges it trains.

TFMOT's own layout leaves the kernel of a layer in float when a separate ReLU follows, because it drops the whole
quantization of that layer to keep its output whole. Here only the output is left alone, so that the kernel is trained
on its grid, and zeros and shared values are kept in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any  # Any: tf_keras layers and models, which have no types

from edgekit.compression.tfmot_wrapping import Refused, Settings, alone, one_step, try_layers
from edgekit.tensors import Array

_KERNELS = ("kernel", "depthwise_kernel")
_DEPTHWISE = "/depthwise"  # the first half of a separable convolution, which TFMOT parts; the second keeps the name


def quantizable(model: Any, settings: Mapping[str, Settings]) -> dict[str, str]:
    """Layer -> why TFMOT does not quantize it."""
    present = {layer.name: layer for layer in model.layers}
    absent = {name: "tf_keras has no layer for this operation" for name in settings if name not in present}
    norms = {name for name in settings if name in present and isinstance(present[name], _batch_normalization())}
    tried = {name: own for name, own in settings.items() if name not in absent and name not in norms}
    refusals = {**absent, **try_layers(model, tried, _try)}
    for name in norms:
        before = present[name].input._keras_history.layer
        if before.name in refusals or before.name not in settings or not _takes_norm(before):
            refusals[name] = "TFMOT quantizes BatchNormalization only right after a convolution or Dense layer"
    return refusals


def quantized(model: Any, settings: Mapping[str, Settings]) -> Any:
    """A copy of the model with the layers that `settings` names quantized."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    keras = tfmot.quantization.keras

    def annotated(layer: Any) -> Any:
        return keras.quantize_annotate_layer(layer) if layer.name in settings else layer

    classes = {type(layer).__name__: type(layer) for layer in model.layers}  # TFMOT makes the layers again by name
    with keras.quantize_scope(), tf_keras.utils.custom_object_scope(classes):
        marked = tf_keras.models.clone_model(model, clone_function=annotated)
        return keras.quantize_apply(marked, _scheme(settings))


def quantized_weights(model: Any) -> dict[str, list[Array]]:
    """The float weights under the original layers' names: what the optimizer trained, not its rounded copy."""
    found: dict[str, list[Array]] = {}
    wrapped = set(map(id, quantized_layers(model)))
    for layer in model.layers:
        if id(layer) not in wrapped:
            found[layer.name] = layer.get_weights()
        elif isinstance(layer.layer, _batch_normalization()):
            found[layer.layer.name] = layer.layer.get_weights()
        else:
            trained = {_short(weight): weight for weight in layer.trainable_weights}
            found[layer.layer.name] = [trained[name].numpy() for name in (*_KERNELS, "bias") if name in trained]
    inputs = {layer.name for layer in model.layers if isinstance(layer, _quantize_layer())}
    for name in [name for name in found if name.endswith(_DEPTHWISE)]:
        found[name.removesuffix(_DEPTHWISE)][:0] = found.pop(name)
    return {name: weights for name, weights in found.items() if weights and name not in inputs}


def quantized_layers(model: Any) -> list[Any]:
    """The wrappers of the layers that TFMOT quantizes."""
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapper

    return [layer for layer in model.layers if isinstance(layer, QuantizeWrapper)]


def ranges(model: Any) -> dict[str, tuple[float, float]]:
    """Layer name -> trained (min, max) of its output."""
    return {name: (float(low), float(high)) for name, low, high in _range_variables(model)}


def start_ranges(model: Any, known: Mapping[str, tuple[float, float]]) -> None:
    """Begin the moving averages where the data is; TFMOT's own (-6, 6) needs long training."""
    for name, low, high in _range_variables(model):
        if name in known:
            low.assign(known[name][0])
            high.assign(known[name][1])


def _try(layer: Any, own: Settings) -> None:
    if not _registry({layer.name: own}).supports(layer) and type(layer).__name__ != "SeparableConv2D":
        raise Refused(f"TFMOT does not quantize {type(layer).__name__} layers")
    small, twin = alone(layer)
    one_step(quantized(small, {twin.name: own}))


def _batch_normalization() -> Any:
    import tf_keras

    return tf_keras.layers.BatchNormalization


def _quantize_layer() -> Any:
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer

    return QuantizeLayer


def _takes_norm(layer: Any) -> bool:
    """True for a layer whose output TFMOT leaves alone, because only a BatchNormalization reads it."""
    import tf_keras

    kinds = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D, tf_keras.layers.Dense)
    return isinstance(layer, kinds) and layer.activation.__name__ == "linear" and len(layer.outbound_nodes) == 1


def _range_variables(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """(layer or input name, its min variable, its max variable)."""
    for layer in model.layers:
        is_input = isinstance(layer, _quantize_layer())
        variables = {_short(weight): weight for weight in layer.weights if weight.shape.rank == 0}
        for prefix in (layer.name,) if is_input else ("post_activation", "output"):
            if f"{prefix}_min" in variables:
                name = layer.input._keras_history.layer.name if is_input else layer.layer.name
                yield name, variables[f"{prefix}_min"], variables[f"{prefix}_max"]


def _short(weight: Any) -> str:
    return str(weight.name.split("/")[-1].split(":")[0])


def _scheme(settings: Mapping[str, Settings]) -> Any:
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_scheme import QuantizeScheme

    class Scheme(QuantizeScheme):  # type: ignore[misc]  # TFMOT has no types
        def get_layout_transformer(self) -> Any:
            return _layout()

        def get_quantize_registry(self) -> Any:
            return _registry(settings)

    return Scheme()


def _registry(settings: Mapping[str, Settings]) -> Any:
    """TFMOT's 8-bit registry; PQAT, CQAT and PCQAT for the layers that have zeros or shared values to keep."""
    from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (
        cluster_preserve_quantize_registry as clusters,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
        prune_preserve_quantize_registry as zeros,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as default,
    )

    class Registry(default.Default8BitQuantizeRegistry):  # type: ignore[misc]
        def supports(self, layer: Any) -> bool:
            """TFMOT also asks about layers that are not annotated but feed one that is; those it refused stay float."""
            return layer.name.removesuffix(_DEPTHWISE) in settings and super().supports(layer)

        def get_quantize_config(self, layer: Any) -> Any:
            own = settings.get(layer.name, {})
            preserving = None
            if own.get("clustered"):
                preserving = clusters.Default8bitClusterPreserveQuantizeRegistry(bool(own.get("sparse")))
            elif own.get("sparse"):
                preserving = zeros.Default8bitPrunePreserveQuantizeRegistry()
            if preserving is None or not preserving.supports(layer):
                return super().get_quantize_config(layer)
            return preserving.get_quantize_config(layer)

    return Registry()


def _layout() -> Any:
    from tensorflow_model_optimization.python.core.quantization.keras import quantize_aware_activation, utils
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_transforms as transforms,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.graph_transformations.model_transformer import (
        ModelTransformer,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.graph_transformations.transforms import (
        LayerPattern,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_layout_transform import (
        QuantizeLayoutTransform,
    )

    no_op = utils.serialize_activation(quantize_aware_activation.NoOpActivation(), use_legacy_format=True)

    class KernelBeforeReLU(transforms.LayerReLUQuantize):  # type: ignore[misc]
        activation = LayerPattern("ReLU")

        def pattern(self) -> Any:
            before = LayerPattern("Add|Conv2D|DepthwiseConv2D|Dense")
            return LayerPattern(self.activation.class_name, self.activation.config, [before])

        def replacement(self, match_layer: Any) -> Any:
            before = match_layer.input_layers[0]
            if before.layer["class_name"] == "Add":
                return super().replacement(match_layer)
            if before.layer["config"]["activation"] == "linear":
                before.layer["config"]["activation"] = no_op
            return match_layer

        def custom_objects(self) -> Any:
            return {**super().custom_objects(), "NoOpActivation": quantize_aware_activation.NoOpActivation}

    class KernelBeforeActivation(KernelBeforeReLU):
        activation = LayerPattern("Activation", {"activation": "relu6?"})

    class NamedHalves(transforms.SeparableConvQuantize):  # type: ignore[misc]
        def replacement(self, match_layer: Any) -> Any:
            pointwise = super().replacement(match_layer)
            name = match_layer.layer["config"]["name"]
            for node, own in ((pointwise, name), (pointwise.input_layers[0], name + _DEPTHWISE)):
                node.layer["name"] = node.layer["config"]["name"] = own
            return pointwise

    class Layout(QuantizeLayoutTransform):  # type: ignore[misc]
        def apply(self, model: Any, layer_quantize_map: Any) -> Any:
            used = [
                transforms.InputLayerQuantize(),
                NamedHalves(),
                transforms.Conv2DBatchNormReLUQuantize(),
                transforms.Conv2DBatchNormActivationQuantize(),
                transforms.Conv2DBatchNormQuantize(),
                transforms.DenseBatchNormReLUQuantize(),
                transforms.DenseBatchNormActivationQuantize(),
                transforms.DenseBatchNormQuantize(),
                KernelBeforeReLU(),
                KernelBeforeActivation(),
            ]
            return ModelTransformer(model, used, set(layer_quantize_map), layer_quantize_map).transform()

    return Layout()
