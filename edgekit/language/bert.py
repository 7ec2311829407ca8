"""BERT encoders (Devlin et al. 2019) and the sentence encoders made of them (Reimers and Gurevych 2019).

Plain Keras layers throughout, so that every step, converter and bridge takes the model. The layers' arithmetic is that
of the reference implementation: the GELU is the exact one, by the error function, and LayerNormalization follows
each sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any  # Any: Keras objects, which have no types

from edgekit.errors import ModelError
from edgekit.kerases import import_keras
from edgekit.language.folders import CONFIG, PretrainedFolder, Shape
from edgekit.tensors import Array

TOKENS = "tokens"
_ACTIVATIONS = ("gelu", "relu", "silu")
_POOLING = "1_Pooling/config.json"
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True)
class Sizes:
    """The numbers of a config.json."""

    vocabulary: int
    positions: int
    types: int
    width: int
    heads: int
    inner: int
    blocks: int
    epsilon: float
    activation: str
    pad: int  # token number that stands for nothing


@dataclass(frozen=True)
class Head:
    """What becomes of the hidden states."""

    pooling: str | None  # "mean", "cls", or None: the states are the output
    normalize: bool = False  # to length 1


def build_bert(folder: PretrainedFolder) -> Any:
    """The encoder with its weights; `tokens` (batch, length) int32 in, of any length up to the table of positions.

    Padding is what has the config's pad_token_id, and may stand anywhere but before text. The output is `embedding`
    (batch, width) where the folder says how sentences are pooled, else `states` (batch, length, width).
    Raises ModelError for a config of another kind, and for weights that do not fit it.
    """
    sizes, head = _sizes(folder), _head(folder)
    prefix = "bert." if folder.has("bert.embeddings.word_embeddings.weight") else ""
    folder.check({prefix + name: shape for name, shape in _shapes(sizes)})
    model = _graph(sizes, head, str(folder.config.get("_name_or_path") or folder.path.name))
    for name, arrays in _weights(sizes, lambda name: folder.tensor(prefix + name)):
        model.get_layer(name).set_weights(arrays)
    return model


def _sizes(folder: PretrainedFolder) -> Sizes:
    config = folder.config
    where = folder.path / CONFIG
    activation = config.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise ModelError(f"{where}: hidden_act is {activation!r}, expected one of {', '.join(_ACTIVATIONS)}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelError(
            f"{where}: position_embedding_type is {config['position_embedding_type']!r}, expected 'absolute'"
        )
    width, heads = folder.number("hidden_size"), folder.number("num_attention_heads")
    if width % heads:
        raise ModelError(f"{where}: hidden_size {width} is not a multiple of num_attention_heads {heads}")
    pad = config.get("pad_token_id", 0)
    vocabulary = folder.number("vocab_size")
    if not isinstance(pad, int) or not 0 <= pad < vocabulary:
        raise ModelError(f"{where}: pad_token_id is {pad!r}, expected a token number below {vocabulary}")
    return Sizes(
        vocabulary=vocabulary,
        positions=folder.number("max_position_embeddings"),
        types=folder.number("type_vocab_size", 2),
        width=width,
        heads=heads,
        inner=folder.number("intermediate_size"),
        blocks=folder.number("num_hidden_layers"),
        epsilon=folder.real("layer_norm_eps", 1e-12),
        activation=activation,
        pad=pad,
    )


def _head(folder: PretrainedFolder) -> Head:
    """By the modules of a sentence encoder; a plain BertModel has none."""
    modules = folder.json("modules.json")
    if modules is None:
        return Head(None)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    foreign = [kind for kind in kinds if kind not in _KNOWN_MODULES]
    if foreign:
        raise ModelError(f"{folder.path}: modules.json has {foreign[0]}, expected {', '.join(_KNOWN_MODULES)} alone")
    ways = [key for key, on in (folder.json(_POOLING) or {}).items() if key.startswith("pooling_mode_") and on is True]
    if ways not in (["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]):
        raise ModelError(
            f"{folder.path / _POOLING}: pools by {', '.join(ways) or 'nothing'}, expected mean or cls alone"
        )
    return Head("mean" if "mean" in ways[0] else "cls", "Normalize" in kinds)


def _graph(sizes: Sizes, head: Head, name: str) -> Any:
    keras = import_keras()
    layers, ops = keras.layers, keras.ops
    tokens = keras.Input((None,), dtype="int32", name=TOKENS)
    real = ops.not_equal(tokens, sizes.pad)
    positions = ops.cumsum(ops.ones_like(tokens), axis=1) - 1  # from the tokens, so that it follows their length
    x = layers.Add(name="embedding_sum")(
        [
            layers.Embedding(sizes.vocabulary, sizes.width, name="token_embedding")(tokens),
            layers.Embedding(sizes.positions, sizes.width, name="position_embedding")(positions),
        ]
    )
    x = layers.LayerNormalization(epsilon=sizes.epsilon, name="embedding_norm")(x)
    seen = ops.expand_dims(real, 1)  # by every token alike
    for block in range(sizes.blocks):
        x = _block(layers, x, seen, sizes, block)
    if head.pooling is None:
        outputs = layers.Identity(name="states")(x)
    else:
        pooled = layers.GlobalAveragePooling1D(name="pooled")(x, mask=real) if head.pooling == "mean" else x[:, 0]
        last = layers.UnitNormalization if head.normalize else layers.Identity
        outputs = last(name="embedding")(pooled)
    return keras.Model(tokens, outputs, name=_plain(name))


def _block(layers: Any, x: Any, seen: Any, sizes: Sizes, block: int) -> Any:
    attention = layers.MultiHeadAttention(sizes.heads, sizes.width // sizes.heads, name=f"attention_{block}")
    attended = attention(x, x, attention_mask=seen)
    x = layers.Add(name=f"attention_sum_{block}")([x, attended])
    x = layers.LayerNormalization(epsilon=sizes.epsilon, name=f"attention_norm_{block}")(x)
    inner = layers.Dense(sizes.inner, activation=sizes.activation, name=f"widen_{block}")(x)
    inner = layers.Dense(sizes.width, name=f"narrow_{block}")(inner)
    x = layers.Add(name=f"feed_forward_sum_{block}")([x, inner])
    return layers.LayerNormalization(epsilon=sizes.epsilon, name=f"feed_forward_norm_{block}")(x)


def _shapes(sizes: Sizes) -> Iterator[tuple[str, Shape]]:
    """(name in the file, shape) of every tensor."""
    width, inner = sizes.width, sizes.inner
    yield "embeddings.word_embeddings.weight", (sizes.vocabulary, width)
    yield "embeddings.position_embeddings.weight", (sizes.positions, width)
    yield "embeddings.token_type_embeddings.weight", (sizes.types, width)
    yield from _pair("embeddings.LayerNorm", (width,), width)
    for block in range(sizes.blocks):
        own = f"encoder.layer.{block}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            yield from _pair(f"{own}.attention.{part}", (width, width), width)
        yield from _pair(f"{own}.attention.output.LayerNorm", (width,), width)
        yield from _pair(f"{own}.intermediate.dense", (inner, width), inner)
        yield from _pair(f"{own}.output.dense", (width, inner), width)
        yield from _pair(f"{own}.output.LayerNorm", (width,), width)


def _pair(name: str, shape: Shape, bias: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", (bias,)


def _weights(sizes: Sizes, tensor: Callable[[str], Array]) -> Iterator[tuple[str, list[Array]]]:
    """(layer, its weights). PyTorch's kernels are (out, in), Keras's (in, out), with the heads apart."""

    def pair(name: str) -> list[Array]:
        return [tensor(f"{name}.weight").T, tensor(f"{name}.bias")]

    width, heads, each = sizes.width, sizes.heads, sizes.width // sizes.heads
    yield "token_embedding", [tensor("embeddings.word_embeddings.weight")]
    first_type = tensor("embeddings.token_type_embeddings.weight")[0]  # one text at a time has no second type
    yield "position_embedding", [tensor("embeddings.position_embeddings.weight") + first_type]
    yield "embedding_norm", pair("embeddings.LayerNorm")
    for block in range(sizes.blocks):
        own = f"encoder.layer.{block}"
        attention: list[Array] = []
        for part in ("query", "key", "value"):
            kernel, bias = pair(f"{own}.attention.self.{part}")
            attention += [kernel.reshape(width, heads, each), bias.reshape(heads, each)]
        kernel, bias = pair(f"{own}.attention.output.dense")
        yield f"attention_{block}", [*attention, kernel.reshape(heads, each, width), bias]
        yield f"attention_norm_{block}", pair(f"{own}.attention.output.LayerNorm")
        yield f"widen_{block}", pair(f"{own}.intermediate.dense")
        yield f"narrow_{block}", pair(f"{own}.output.dense")
        yield f"feed_forward_norm_{block}", pair(f"{own}.output.LayerNorm")


def _plain(name: str) -> str:
    """A hub name ("owner/model-name") as a Keras name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.rpartition("/")[2]).strip("_") or "encoder"
