"""Causal decoders of Llama's kind (Touvron et al. 2023): SmolLM, TinyLlama and others of `model_type` "llama".

Tokens in, a score for every token of the vocabulary out, at every place. RMSNorm before each part, rotary positions,
grouped queries, a gated SiLU in the feed-forward part, and a head that may be the embedding read backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any  # Any: Keras objects, which have no types

from edgekit.errors import ModelError
from edgekit.kerases import import_keras
from edgekit.language.folders import PretrainedFolder, Shape
from edgekit.tensors import Array, format_shape

TOKENS = "tokens"
LOGITS = "logits"
TABLE = "model.embed_tokens.weight"
_EMBEDDING = "embedding"  # the layer that holds it


@dataclass(frozen=True)
class DecoderSizes:
    """The numbers that make a decoder. Raises ModelError when they make none."""

    vocabulary: int
    width: int
    inner: int  # of the feed-forward part
    blocks: int
    heads: int
    groups: int  # of keys and values; heads share them
    head_size: int
    epsilon: float = 1e-5
    theta: float = 10_000.0  # base of the wavelengths of positions
    tied: bool = True  # whether the head is the embedding
    attention_bias: bool = False

    def __post_init__(self) -> None:
        if self.heads % self.groups:
            raise ModelError(f"{self.heads} heads cannot share {self.groups} keys and values evenly")
        if self.head_size % 2:
            raise ModelError(f"a head has size {self.head_size}, expected an even number: positions rotate pairs")


def build_decoder(
    sizes: DecoderSizes, *, name: str = "decoder", tables: Callable[[], Sequence[Array]] | None = None
) -> Any:
    """The Keras model with fresh weights.

    `tokens` (batch, length) int32 in, `logits` (batch, length, vocabulary) out. `tables` gives the weights of the
    embedding, the largest: they are set before there is anything else, so that two of them fit where the model will.
    """
    from edgekit.language.layers import RotaryAttention

    keras = import_keras()
    layers = keras.layers
    tokens = keras.Input((None,), dtype="int32", name=TOKENS)
    table = layers.ReversibleEmbedding(
        sizes.vocabulary, sizes.width, tie_weights=sizes.tied,
        embeddings_initializer="uniform" if tables is None else "zeros", name=_EMBEDDING,
    )  # fmt: skip
    if tables is not None:
        table.build()
        table.set_weights(tables())
    x = table(tokens)
    for block in range(sizes.blocks):
        attention = RotaryAttention(
            sizes.heads, sizes.groups, sizes.head_size, theta=sizes.theta, use_bias=sizes.attention_bias,
            name=f"attention_{block}",
        )  # fmt: skip
        normed = layers.RMSNormalization(epsilon=sizes.epsilon, name=f"attention_norm_{block}")(x)
        x = layers.Add(name=f"attention_sum_{block}")([x, attention(normed)])
        normed = layers.RMSNormalization(epsilon=sizes.epsilon, name=f"feed_forward_norm_{block}")(x)
        gate = layers.Dense(sizes.inner, activation="silu", use_bias=False, name=f"gate_{block}")(normed)
        inner = layers.Dense(sizes.inner, use_bias=False, name=f"widen_{block}")(normed)
        inner = layers.Multiply(name=f"gated_{block}")([gate, inner])
        inner = layers.Dense(sizes.width, use_bias=False, name=f"narrow_{block}")(inner)
        x = layers.Add(name=f"feed_forward_sum_{block}")([x, inner])
    x = layers.RMSNormalization(epsilon=sizes.epsilon, name="last_norm")(x)
    return keras.Model(tokens, layers.Identity(name=LOGITS)(table(x, reverse=True)), name=name)


def build_llama(folder: PretrainedFolder) -> Any:
    """The decoder of a folder with its weights. Raises ModelError for weights that do not fit the config."""
    sizes = _sizes(folder)
    folder.check(dict(tensor_shapes(sizes)))
    tensors = dict(_layers(sizes, range(sizes.blocks)))

    def weights(layer: str) -> list[Array]:
        return [_turned(name, folder.tensor(name)) for name in tensors[layer]]

    model = build_decoder(sizes, name="decoder", tables=lambda: weights(_EMBEDDING))
    for layer in tensors:
        if layer != _EMBEDDING:
            model.get_layer(layer).set_weights(weights(layer))
    return model


def tensors_of(model: Any, sizes: DecoderSizes) -> dict[str, Array]:
    """The weights of a decoder as a folder names and lays them. Raises ModelError where a layer has another shape."""
    expected, found = dict(tensor_shapes(sizes)), dict[str, Array]()
    layers = {layer.name: layer for layer in model.layers}
    for layer, names in _layers(sizes, block_numbers(model)):
        arrays = layers[layer].get_weights() if layer in layers else []
        if len(arrays) != len(names):
            raise ModelError(
                f"'{model.name}' has {len(arrays)} weights in layer '{layer}', expected {len(names)}: such a folder "
                "holds the layers that edgekit.load makes of one"
            )
        for name, array in zip(names, arrays, strict=True):
            found[name] = _turned(name, array)
            if found[name].shape != expected[name]:
                raise ModelError(
                    f"'{layer}' of '{model.name}' makes '{name}' {format_shape(found[name].shape)}, the first block's "
                    f"sizes make it {format_shape(expected[name])}: such a folder has one size for all blocks"
                )
    return found


def _sizes(folder: PretrainedFolder) -> DecoderSizes:
    config, where = folder.config, folder.origin
    for key, known in (("hidden_act", "silu"), ("rope_scaling", None), ("mlp_bias", False)):
        if config.get(key, known) != known:
            raise ModelError(f"{where}: {folder.shown(key)} is {config[key]!r}, expected {known!r}")
    width, heads = folder.number("hidden_size"), folder.number("num_attention_heads")
    try:
        return DecoderSizes(
            vocabulary=folder.number("vocab_size"),
            width=width,
            inner=folder.number("intermediate_size"),
            blocks=folder.number("num_hidden_layers"),
            heads=heads,
            groups=folder.number("num_key_value_heads", heads),
            head_size=folder.number("head_dim") if config.get("head_dim") else max(width // heads, 1),
            epsilon=folder.real("rms_norm_eps", 1e-6),
            theta=folder.real("rope_theta", 10_000.0),
            tied=config.get("tie_word_embeddings", False) is True,
            attention_bias=config.get("attention_bias", False) is True,
        )
    except ModelError as problem:
        said = str(problem)
        raise problem if said.startswith(str(where)) else ModelError(f"{where}: {said}") from problem


def tensor_shapes(sizes: DecoderSizes) -> Iterator[tuple[str, Shape]]:
    """(name in the file, shape) of every tensor."""
    width, inner = sizes.width, sizes.inner
    queries, keys = sizes.heads * sizes.head_size, sizes.groups * sizes.head_size
    yield TABLE, (sizes.vocabulary, width)
    if not sizes.tied:
        yield "lm_head.weight", (sizes.vocabulary, width)
    yield "model.norm.weight", (width,)
    for block in range(sizes.blocks):
        own = f"model.layers.{block}"
        yield f"{own}.input_layernorm.weight", (width,)
        yield f"{own}.post_attention_layernorm.weight", (width,)
        for part, size in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys), ("o_proj", width)):
            yield f"{own}.self_attn.{part}.weight", (size, queries if part == "o_proj" else width)
            if sizes.attention_bias:
                yield f"{own}.self_attn.{part}.bias", (size,)
        yield f"{own}.mlp.gate_proj.weight", (inner, width)
        yield f"{own}.mlp.up_proj.weight", (inner, width)
        yield f"{own}.mlp.down_proj.weight", (width, inner)


def block_numbers(model: Any) -> list[int]:
    """The numbers in the names of a decoder's blocks, in order: where blocks were left out, some are missing."""
    names = (layer.name.removeprefix("gate_") for layer in model.layers if layer.name.startswith("gate_"))
    return sorted(int(name) for name in names if name.isdecimal())


def _layers(sizes: DecoderSizes, numbers: Sequence[int]) -> Iterator[tuple[str, list[str]]]:
    """(layer, the tensors that are its weights, in order); `numbers` are those in the names of the blocks' layers."""
    yield _EMBEDDING, [TABLE] if sizes.tied else [TABLE, "lm_head.weight"]
    yield "last_norm", ["model.norm.weight"]
    for block, number in enumerate(numbers):
        own = f"model.layers.{block}"
        kinds = ("weight", "bias") if sizes.attention_bias else ("weight",)
        parts = ("q_proj", "k_proj", "v_proj", "o_proj")
        yield f"attention_{number}", [f"{own}.self_attn.{part}.{kind}" for part in parts for kind in kinds]
        yield f"attention_norm_{number}", [f"{own}.input_layernorm.weight"]
        yield f"feed_forward_norm_{number}", [f"{own}.post_attention_layernorm.weight"]
        for layer, part in (("gate", "gate_proj"), ("widen", "up_proj"), ("narrow", "down_proj")):
            yield f"{layer}_{number}", [f"{own}.mlp.{part}.weight"]


def _turned(name: str, array: Array) -> Array:
    """A tensor as the other side has it: PyTorch's kernels are (out, in), Keras's (in, out); tables are alike."""
    return array.T if array.ndim == 2 and name != TABLE else array
