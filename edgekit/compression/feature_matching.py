"""Matching what happens inside: features (Romero et al. 2015) and attention maps (Zagoruyko & Komodakis 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any  # Any: keras models and tensors, which have no types

import numpy as np

from edgekit.compression.flattening import nodes
from edgekit.compression.steps import Distill
from edgekit.errors import ModelError, did_you_mean
from edgekit.loading import import_keras
from edgekit.tensors import Array

_SAMPLES = 512  # that the scale of a feature is taken from
_TINY = 1e-12


@dataclass(frozen=True)
class Match:
    """A tensor of the teacher, and the student's tensor that should become like it."""

    name: str  # unique among the matches of a step
    teacher: Any
    student: Any
    scaled: bool  # whether the difference is measured in units of the teacher's own size


def matches(step: Distill, teacher: Any, student: Any) -> list[Match]:
    """What the step's `features` and `attention` ask for, on models without nested models.

    A feature of the student is projected onto the teacher's channels by a learned 1×1 layer, which is no part of the
    student. Raises ModelError on an unknown layer, and on two whose positions do not agree.
    """
    found = []
    for ours, theirs in step.features.items():
        wanted, own = _pair("features", ours, theirs, teacher, student)
        project = import_keras().layers.Dense(wanted.shape[-1], name=f"{theirs}_as_{ours}".replace("/", "_"))
        found.append(Match(f"features {ours}", wanted, project(own), scaled=True))
    for ours, theirs in step.attention.items():
        wanted, own = _pair("attention", ours, theirs, teacher, student)
        if len(wanted.shape) < 3:
            raise ModelError(
                f"Distill.attention: layer '{ours}' gives {tuple(wanted.shape)}, which has no positions to attend to; "
                "name a layer with an image or a sequence, or match it under features"
            )
        found.append(Match(f"attention {ours}", attention_map(wanted), attention_map(own), scaled=False))
    return found


def attention_map(tensor: Any) -> Any:
    """Mean squared activation of each position, all positions together of length 1: shape (batch, positions)."""
    ops = import_keras().ops
    strengths = ops.mean(ops.square(tensor), axis=-1)
    flat = ops.reshape(strengths, (-1, int(np.prod(strengths.shape[1:]))))
    return flat / ops.sqrt(ops.sum(ops.square(flat), axis=-1, keepdims=True) + _TINY)


def match_loss(match: Match, targets: Array) -> Any:
    """Mean squared difference of features, in units of the teacher's mean square; summed difference of maps."""
    ops = import_keras().ops
    size = float(np.mean(np.square(targets[:_SAMPLES]))) + _TINY if match.scaled else None

    def loss(wanted: Any, got: Any) -> Any:
        wanted = ops.cast(wanted, got.dtype)
        difference = ops.reshape(ops.square(wanted - got), (ops.shape(got)[0], -1))
        return ops.sum(difference, axis=-1) if size is None else ops.mean(difference, axis=-1) / size

    return loss


def _pair(field: str, ours: str, theirs: str, teacher: Any, student: Any) -> tuple[Any, Any]:
    wanted = _output(field, "teacher", ours, teacher)
    own = _output(field, "student", theirs, student)
    if wanted.shape[1:-1] != own.shape[1:-1]:
        raise ModelError(
            f"Distill.{field}: '{ours}' of the teacher gives {tuple(wanted.shape)} and '{theirs}' of the student "
            f"{tuple(own.shape)}; only the last number, the channels, may differ: match layers of the same resolution"
        )
    return wanted, own


def _output(field: str, whose: str, name: str, model: Any) -> Any:
    made = [node.outputs[0] for node in nodes(model) if node.operation.name == name]
    if not made:
        known = [layer.name for layer in model.layers]
        raise ModelError(f"Distill.{field}: the {whose} has no layer '{name}'{did_you_mean(name, known)}")
    if len(made) > 1:
        raise ModelError(f"Distill.{field}: layer '{name}' of the {whose} is used {len(made)} times; name another")
    return made[0]
