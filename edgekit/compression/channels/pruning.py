"""The step `PruneChannels`."""

from __future__ import annotations

from edgekit.compression.channels.choosing import chosen, settings
from edgekit.compression.channels.cutting import cut
from edgekit.compression.channels.groups import ChannelGraph, Group, channel_graph
from edgekit.compression.flattening import flat
from edgekit.compression.macs import macs
from edgekit.compression.steps import PruneChannels
from edgekit.compression.training import Training, train_on_task
from edgekit.errors import ModelError
from edgekit.loading import LoadedModel, Note

NAME = "prune-channels"


def prune_channels(loaded: LoadedModel, step: PruneChannels, training: Training) -> LoadedModel:
    """An ordinary smaller model, with notes on what had to stay, fine-tuned for `step.epochs`.

    The given model is left as it is. Raises ModelError when nothing can be cut, ConfigError on settings that match no
    layer, contradict each other or cannot be met, DataError when data is needed and missing.
    """
    graph = channel_graph(flat(loaded.model))
    notes = _kept_notes(graph, step)
    if not any(len(group.units) for group in graph.groups):
        reasons = "; ".join(f"'{note.layer}' {note.text}" for note in notes) or "no layer makes channels"
        raise ModelError(f"{NAME}: nothing in model '{loaded.name}' can be cut: {reasons}")
    model = cut(graph, chosen(graph, step, loaded, training))
    train_on_task(model, loaded, step, training, "prune channels")
    notes.append(
        Note(
            NAME,
            "",
            f"{loaded.parameters:,} parameters became {model.count_params():,}, "
            f"{macs(graph.model):,} multiply-accumulates became {macs(model):,}",
        )
    )
    return loaded.with_model(model).with_notes(notes)


def _kept_notes(graph: ChannelGraph, step: PruneChannels) -> list[Note]:
    notes = []
    for group, own in zip(graph.groups, settings(graph, step), strict=True):
        reason = "the recipe skips them" if own is None else group.reason
        if own is None or group.fixed:
            notes.append(Note(NAME, group.layers[0], f"{_extent(group, own is None)} stay: {reason}"))
    return notes


def _extent(group: Group, whole: bool) -> str:
    """`"all 64 channels"` or `"12 of 64 channels"`, and which other layers make them too."""
    total = len(group.units) + group.fixed
    what = group.blocks[0].what
    count = f"all {total} {what}" if whole or not len(group.units) else f"{group.fixed} of {total} {what}"
    others = group.layers[1:]
    named = f"{', '.join(others[:3])}{f' and {len(others) - 3} more' if len(others) > 3 else ''}"
    return f"{count} (shared with {named})" if others else count
