"""Language models: pretrained weights in, Keras 3 models of plain layers out."""

from edgekit.language.bert import TOKENS
from edgekit.language.folders import PretrainedFolder, is_pretrained
from edgekit.language.models import build_pretrained, check_length, open_pretrained

__all__ = ["TOKENS", "PretrainedFolder", "build_pretrained", "check_length", "is_pretrained", "open_pretrained"]
