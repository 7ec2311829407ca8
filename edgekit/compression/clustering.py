"""Clustering: the weights of a kernel share few values, which train on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.compression.centroids import centroids, nearest
from edgekit.compression.copying import copied
from edgekit.compression.kernels import Kernel
from edgekit.compression.masks import earlier_zeros, zeros_kept
from edgekit.compression.selection import select_kernels
from edgekit.compression.sharing import FEWEST_MEMBERS, Codebook, Sharing, earlier_codebooks
from edgekit.compression.steps import Cluster
from edgekit.compression.training import Training, train_on_task
from edgekit.loading import LoadedModel, Note
from edgekit.tensors import Array
from edgekit.wording import counted


def cluster(loaded: LoadedModel, step: Cluster, training: Training) -> LoadedModel:
    """Cluster the kernels of a copy of the model, and train the shared values unless `step.epochs` is 0.

    Each kernel ends with at most `clusters` distinct values. Raises ModelError when no kernel can be clustered,
    DataError when data is needed and missing.
    """
    model = copied(loaded.model)
    chosen, notes = select_kernels(step, model, _unfit)
    variables = [kernel.variable for kernel, _ in chosen]
    codebooks = [(kernel.variable, _codebook(kernel, own, training.seed)) for kernel, own in chosen]
    sharing = Sharing([*codebooks, *earlier_codebooks(model, besides=variables)])

    def after_batch(_done: int, _total: int) -> None:
        sharing.apply()

    train_on_task(
        model,
        loaded,
        step,
        training,
        f"cluster to {step.clusters} values",
        after_batch=after_batch,
        zeros=(zeros_kept(model, besides=variables),),
        state=sharing,
    )
    return loaded.with_model(model).with_notes([*notes, reached([kernel for kernel, _ in chosen])])


def reached(clustered: Sequence[Kernel]) -> Note:
    """How few values the kernels share."""
    weights = sum(kernel.size for kernel in clustered)
    most = max(len(np.unique(np.asarray(kernel.variable))) for kernel in clustered)
    text = (
        f"{weights:,} weights in {counted(len(clustered), 'kernel')} share at most {most} values each; "
        "the file shrinks when packed"
    )
    return Note("cluster", "", text)


def _unfit(kernel: Kernel, own: Cluster) -> str | None:
    """Why a kernel is not worth clustering."""
    if kernel.kind == "depthwise":
        return f"depthwise kernels have {kernel.rows} weights per channel, too few to share values; left as they are"
    if kernel.size < FEWEST_MEMBERS * own.clusters:
        return f"its {kernel.size} weights are too few to share {own.clusters} values; left as they are"
    return None


def _codebook(kernel: Kernel, own: Cluster, seed: int) -> Codebook:
    """k-means of the kernel's weights; zeros that stay are a cluster of their own."""
    weights = np.asarray(kernel.variable, np.float32)
    zeros = earlier_zeros(weights) if own.preserve_sparsity else np.zeros(weights.shape, bool)
    count = own.clusters - int(zeros.any())
    found = centroids(weights[~zeros], count, own.initialization, seed)
    if not zeros.any():
        return Codebook(found, nearest(weights, found), zero_stays=own.preserve_sparsity)
    members: Array = np.where(zeros, 0, nearest(weights, found) + 1).astype(np.int32)
    return Codebook(np.concatenate([np.zeros(1, np.float32), found]), members)
