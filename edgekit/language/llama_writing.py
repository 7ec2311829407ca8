"""A decoder of Llama's kind as a folder of config.json and safetensors, which other tools for such models read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Any: a keras.Model

import numpy as np

from edgekit.errors import ConfigError, ModelError, did_you_mean
from edgekit.files import atomic
from edgekit.language.folders import CONFIG, WEIGHTS
from edgekit.language.llama import TABLE, DecoderSizes, tensors_of
from edgekit.tensors import Array

FLOATS = ("float32", "float16")


def save_llama(
    model: Any, folder: Path, *, positions: int, end_token: int | None = None, dtype: str = "float32"
) -> None:
    """Write config.json and model.safetensors of a decoder that has the layers of `build_decoder`.

    `positions` is the longest text, in tokens, that the model was trained for; `end_token` the number of the token that
    ends one; `dtype`, one of FLOATS, that of the stored weights. Compression that keeps the layers (pruning of weights,
    clustering, distillation into fewer blocks) fits. A tokenizer.json is for the caller to put beside them. Raises
    ModelError for another kind of model, and for blocks of unequal sizes, which the format has no words for;
    ConfigError for another dtype.
    """
    sizes = sizes_of(model)
    if dtype not in FLOATS:
        raise ConfigError(f"dtype is '{dtype}'{did_you_mean(dtype, FLOATS)}")
    tensors = {name: array.astype(dtype) for name, array in tensors_of(model, sizes).items()}
    save_tensors(folder, tensors, sizes, positions=positions, end_token=end_token)


def save_tensors(
    folder: Path, tensors: Mapping[str, Array], sizes: DecoderSizes, *, positions: int, end_token: int | None = None
) -> None:
    """Write the folder of weights that are named and laid as in such a folder."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / WEIGHTS) as temporary:
        laid = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        save_file(laid, temporary, metadata={"format": "pt"})
    config = {**_config(sizes, positions, tensors), **({} if end_token is None else {"eos_token_id": end_token})}
    with atomic(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def sizes_of(model: Any) -> DecoderSizes:
    """The sizes of a decoder that has the layers of `build_decoder`. Raises ModelError for another kind of model."""
    layers = {layer.name: layer for layer in model.layers}
    try:
        table, attention, gate = layers["embedding"], layers["attention_0"], layers["gate_0"]
        return DecoderSizes(
            vocabulary=table.input_dim,
            width=table.output_dim,
            inner=gate.units,
            blocks=sum(name.startswith("gate_") for name in layers),
            heads=attention.heads,
            groups=attention.groups,
            head_size=attention.size,
            epsilon=layers["last_norm"].epsilon,
            theta=attention.theta,
            tied=table.tie_weights,
            attention_bias=attention.use_bias,
        )
    except (KeyError, AttributeError) as problem:
        raise ModelError(
            f"'{model.name}' is not a decoder of Llama's kind ({problem}): expected the layers that edgekit.load "
            "makes of such a folder"
        ) from problem


def _config(sizes: DecoderSizes, positions: int, tensors: Mapping[str, Array]) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": sizes.attention_bias,
        "head_dim": sizes.head_size,
        "hidden_act": "silu",
        "hidden_size": sizes.width,
        "intermediate_size": sizes.inner,
        "max_position_embeddings": positions,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.blocks,
        "num_key_value_heads": sizes.groups,
        "rms_norm_eps": sizes.epsilon,
        "rope_theta": sizes.theta,
        "tie_word_embeddings": sizes.tied,
        "torch_dtype": str(tensors[TABLE].dtype),
        "vocab_size": sizes.vocabulary,
    }
