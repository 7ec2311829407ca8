"""Quantization-aware training, native in Keras 3: train the simulation, keep the plain model and its ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any  # Any: a keras model

import numpy as np

from edgekit.compression.canonical import Canonical, canonical_form
from edgekit.compression.fake_quantization import Simulation
from edgekit.compression.grids import FLOAT_BITS, shares_values
from edgekit.compression.kernel_rounding import quantizable_kernels
from edgekit.compression.kernels import Kernel
from edgekit.compression.masks import zeros_kept
from edgekit.compression.selection import select
from edgekit.compression.sharing import Codebook, Sharing, codebook
from edgekit.compression.steps import QuantizeAware
from edgekit.compression.training import Training, train_on_task
from edgekit.data import Data
from edgekit.loading import LoadedModel, Note, Range

CALIBRATION_SAMPLES = 256  # of the training data, whose least and largest values the ranges begin with
CALIBRATION_BATCH = 32


def quantize_aware(loaded: LoadedModel, step: QuantizeAware, training: Training) -> LoadedModel:
    """Fine-tune a folded copy under simulated int8 and return it with kernels on their grids and trained ranges.

    What stays float is noted. Raises ConfigError on a pattern that matches no kernel.
    """
    prepared = Prepared(loaded, step)
    simulation, model = prepared.simulation(), prepared.loaded.model
    calibrate(simulation, prepared.loaded, training.need_data())
    sharing = Sharing([(kernel.variable, book) for kernel, book in prepared.shared])

    def after_batch(_done: int, _total: int) -> None:
        sharing.apply()

    train_on_task(
        simulation.model,
        prepared.loaded,
        step,
        training,
        "quantization-aware training",
        after_batch=after_batch,
        zeros=(zeros_kept(model),) if step.preserve_sparsity else (),
        state=sharing,
        float32=True,
    )
    return prepared.finished(simulation)


class Prepared:
    """A copy of a model in canonical form, and what the step wants of its kernels."""

    def __init__(self, loaded: LoadedModel, step: QuantizeAware) -> None:
        """Raises ConfigError on a pattern that matches no kernel."""
        keeps_shared = _keeps_shared(loaded, step)
        form = canonical_form(loaded, keep_shared=keeps_shared)
        self.loaded = form.loaded
        self.bits = _bits(form, step)  # by kernel name
        self.shared = _shared(form.loaded.model, self.bits) if keeps_shared else []

    def simulation(self, ranges: Mapping[str, Range] | None = None) -> Simulation:
        """The simulation of the copy, whose weights it shares."""
        return Simulation(self.loaded, ranges, bits=self.bits, shared={kernel.name for kernel, _ in self.shared})

    def finished(self, simulation: Simulation) -> LoadedModel:
        """The copy with its kernels on their grids, the simulation's ranges, and notes on what stays float."""
        simulation.snap()
        other_bits = {name: count for name, count in self.bits.items() if count != 8}
        finished = replace(self.loaded, activation_ranges=simulation.ranges(), weight_bits=other_bits or None)
        return finished.with_notes(_notes(simulation))


def calibrate(simulation: Simulation, loaded: LoadedModel, data: Data) -> None:
    """Let samples spread over the data set the ranges, so that training begins where the values are."""
    rows = data.spread_rows(CALIBRATION_SAMPLES)
    for start in range(0, len(rows), CALIBRATION_BATCH):
        simulation.observe(loaded.pack(data.take(rows[start : start + CALIBRATION_BATCH]).inputs))


def _bits(form: Canonical, step: QuantizeAware) -> dict[str, int]:
    """Kernel name -> bits, FLOAT_BITS where it is skipped; patterns match the names from before."""
    users = {kernel.name: _users_name(kernel.name, form.original_names) for kernel in _kernels(form)}
    settings = select(step, users.values())
    chosen = {name: settings[original] for name, original in users.items()}
    return {name: FLOAT_BITS if own is None else own.bits for name, own in chosen.items()}


def _kernels(form: Canonical) -> list[Kernel]:
    return quantizable_kernels(form.loaded.model)


def _users_name(kernel: str, original_names: Mapping[str, str]) -> str:
    layer, *parts = kernel.split("/")
    return "/".join([original_names.get(layer, layer), *parts])


def _keeps_shared(loaded: LoadedModel, step: QuantizeAware) -> bool:
    """False for a model on int8 grids, unless it was clustered before: grids make equal values of their own."""
    clustered = loaded.origin is not None and any(done.get("step") == "cluster" for done in loaded.origin.recipe)
    return step.preserve_clusters and (loaded.activation_ranges is None or clustered)


def _shared(model: Any, bits: Mapping[str, int]) -> list[tuple[Kernel, Codebook]]:
    """The kernels whose values are shared, with their codebooks."""
    rounded = (kernel for kernel in quantizable_kernels(model) if bits[kernel.name] != FLOAT_BITS)
    sharing = (kernel for kernel in rounded if shares_values(np.asarray(kernel.variable)))
    found = [(kernel, codebook(kernel.variable)) for kernel in sharing]
    return [(kernel, book) for kernel, book in found if book is not None]


def _notes(simulation: Simulation) -> list[Note]:
    return [Note("quantize-aware", name, f"stays float: {why}") for name, why in simulation.left_float().items()]
