"""Which architecture a folder of pretrained weights holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: a keras.Model

from edgekit.errors import ModelError, did_you_mean
from edgekit.language.bert import build_bert
from edgekit.language.folders import GGUF, PretrainedFolder, open_folder
from edgekit.language.gguf_files import open_gguf
from edgekit.language.llama import build_llama
from edgekit.tokenizing import TOKENIZER, Tokenizer

_BUILDERS = {"bert": build_bert, "llama": build_llama}  # by model_type


def open_pretrained(path: Path) -> PretrainedFolder:
    """What is in a folder of pretrained weights, or in a GGUF file. Raises ModelError."""
    return open_gguf(path) if path.suffix == GGUF else open_folder(path)


def build_pretrained(folder: PretrainedFolder) -> Any:
    """The Keras model of a folder, with its weights.

    Raises ModelError for an architecture that is not known, and for weights or a tokenizer that do not fit the config.
    """
    _check_tokenizer(folder)
    kind = str(folder.config.get("model_type"))
    if kind not in _BUILDERS:
        raise ModelError(f"{folder.origin}: model_type is '{kind}'{did_you_mean(kind, _BUILDERS)}")
    return _BUILDERS[kind](folder)


def check_length(folder: PretrainedFolder, length: int) -> None:
    """Raise ModelError for a text of more tokens than the model has positions."""
    positions = folder.number("max_position_embeddings")
    if length > positions:
        raise ModelError(f"{folder.path}: a length of {length}, and the model has {positions} positions: give no more")


def _check_tokenizer(folder: PretrainedFolder) -> None:
    if (folder.beside / TOKENIZER).is_file():
        Tokenizer.open(folder.beside).check_fits(folder.number("vocab_size"))
