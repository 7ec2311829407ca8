"""The sensitivity table as a picture: layers down, methods and levels across, colour by the increase of the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: matplotlib's axes

import numpy as np

from edgekit.files import atomic
from edgekit.search.sensitivity import INT4, INT8, Cell, Sensitivity
from edgekit.search.space import CHANNELS, ENERGY, SPARSITY
from edgekit.tensors import Array

LEAST = 1e-4  # increases below it, and losses that fell, have one colour

_TITLES = {
    CHANNELS: "channels\n-{:.0%}", ENERGY: "low rank\n{:.0%} energy", SPARSITY: "zeros\n{:.0%}", INT8: "int8",
    INT4: "int4\nweights",
}  # fmt: skip


def write_heat_map(table: Sensitivity, path: Path) -> None:
    """Write a .png or .svg; a cell that could not be measured is grey. Raises OutputError."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    layers = list(dict.fromkeys(cell.layer for cell in table.cells))
    columns = sorted({(_rank(cell), cell.method, cell.level) for cell in table.cells}, key=lambda item: item[0])
    values = np.full((len(layers), len(columns)), np.nan)
    places = {(method, level): index for index, (_, method, level) in enumerate(columns)}
    for cell in table.cells:
        if cell.loss_increase is not None:
            values[layers.index(cell.layer), places[cell.method, cell.level]] = max(LEAST, cell.loss_increase)
    figure = Figure(figsize=(3.0 + 0.75 * len(columns), 1.7 + 0.36 * len(layers)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("#d9d9d9")
    top = max(10 * LEAST, float(np.nanmax(values, initial=LEAST)))
    image = axes.imshow(values, aspect="auto", cmap="viridis_r", norm=LogNorm(LEAST, top))
    titles = [_TITLES[method] if level is None else _TITLES[method].format(level) for _, method, level in columns]
    axes.set_xticks(range(len(columns)), titles, fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    _write_numbers(axes, values, top)
    axes.set_title(f"{table.model}: increase of the loss ({table.loss:.3g}) when one layer alone is changed, untrained")
    figure.colorbar(image, ax=axes, label="increase of the loss")
    with rc_context({"svg.hashsalt": "edgekit"}), atomic(path) as temporary:  # the same figures give the same bytes
        figure.savefig(temporary, format=path.suffix[1:], dpi=110, metadata=_no_date(path))


def _write_numbers(axes: Any, values: Array, top: float) -> None:
    middle = np.sqrt(LEAST * top)
    for (row, column), value in np.ndenumerate(values):
        measured = np.isfinite(value)
        text = "-" if not measured else f"{value:.2g}" if value > LEAST else "0"
        colour = "white" if measured and value > middle else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def _rank(cell: Cell) -> tuple[int, float]:
    level = cell.level or 0.0
    return list(_TITLES).index(cell.method), -level if cell.method == ENERGY else level


def _no_date(path: Path) -> dict[str, None]:
    return {"Date": None} if path.suffix == ".svg" else {}
