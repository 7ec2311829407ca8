"""What each layer of one file weighs and costs: bars by name, or a skyline where the names would not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any  # Any: charts, whose package is imported when one is drawn

from edgekit.layer_figures import LayerFigures
from edgekit.report.drawing import INK, SERIES, WIDE, Plot, label_room, named, plotting

NAMED = 40  # up to which number of layers each has a row with its name
ROW = 20  # pixels
FEW_ZEROS = 5.0  # percent; with fewer in every layer, nobody pruned and there is nothing to see
SKYLINE = 96  # pixels of one panel's height
_PRECISIONS = ("int8", "fp32", "fp16", "int4", "int16")  # each keeps its colour from chart to chart
MARKED = "output_db"  # the panel that shows the places of the culprits
_PANELS = {  # field -> (title, on a phone too)
    "kB": ("kB", True),
    "output_db": ("SNR of outputs, dB", True),
    "zeros": ("zeros, %", False),
}


def layers_chart(layers: Sequence[LayerFigures], width: int) -> Plot:
    """Panels of bytes, SNR and sparsity, those that were measured; culprits carry their place."""
    rows = [_row(index, layer) for index, layer in enumerate(layers)]
    panels = [
        field
        for field, (_, on_phones) in _PANELS.items()
        if _worth_a_panel(field, rows) and (on_phones or width == WIDE)
    ]
    chart = (_named if len(layers) <= NAMED else _skyline)(rows, panels, width)
    return Plot(chart, {"layers": rows})


def _worth_a_panel(field: str, rows: Sequence[dict[str, Any]]) -> bool:
    values = [row[field] for row in rows if row[field] is not None]
    return bool(values) and (field != "zeros" or max(values) >= FEW_ZEROS)


def _row(index: int, layer: LayerFigures) -> dict[str, Any]:
    zeros = None if layer.sparsity is None else round(100 * layer.sparsity, 1)
    told = [f"{layer.name}, {layer.precision}: {layer.bytes / 1000:,.1f} kB"]
    told += [] if layer.output_db is None else [f"outputs {layer.output_db:.1f} dB"]
    told += [] if zeros is None else [f"{zeros:.0f} % zeros"]
    return {
        "at": index, "next": index + 0.9, "key": f"{index} {layer.name}", "kB": layer.bytes / 1000, "zeros": zeros,
        "output_db": layer.output_db, "precision": layer.precision, "said": ", ".join(told),
        "place": "" if layer.culprit is None else f"◂ {layer.culprit}",
        "above": "" if layer.culprit is None else f"▾ {layer.culprit}",
    }  # fmt: skip


def _colour(alt: Any, rows: Sequence[dict[str, Any]]) -> Any:
    found = list(dict.fromkeys(row["precision"] for row in rows))
    others = [name for name in found if name not in _PRECISIONS]
    names = [name for name in (*_PRECISIONS, *others) if name in found]
    colours = [SERIES[_PRECISIONS.index(name) if name in _PRECISIONS else -1] for name in names]
    return alt.Color("precision:N", title=None, scale=alt.Scale(domain=names, range=colours))


def _scale(alt: Any, field: str) -> Any:
    return alt.Scale(domain=[0, 100]) if field == "zeros" else alt.Scale()


def _named(rows: Sequence[dict[str, Any]], panels: Sequence[str], width: int) -> Any:
    alt = plotting()
    room = label_room((row["key"].partition(" ")[2] for row in rows), width // 3)
    each = (width - room - 40) // len(panels) - 24
    colour, keys = _colour(alt, rows), [row["key"] for row in rows]
    charts = []
    for place, field in enumerate(panels):
        axis = alt.Axis(
            labelExpr="slice(datum.value, indexof(datum.value, ' ') + 1)", domain=False, ticks=False, labelColor=INK,
            labelLimit=room, minExtent=room,
        )  # fmt: skip
        base = alt.Chart(named("layers")).encode(
            y=alt.Y("key:N", title=None, scale=alt.Scale(domain=keys), axis=axis if place == 0 else None),
            x=alt.X(f"{field}:Q", title=_PANELS[field][0], scale=_scale(alt, field),
                    axis=alt.Axis(tickCount=2 if each < 150 else 5, labelFlush=False)),
        )  # fmt: skip
        bars = base.mark_bar(height=11).encode(color=colour, description="said:N")
        marks = base.mark_text(align="left", dx=4, color=SERIES[1], fontWeight=700, aria=False).encode(text="place:N")
        charts.append((bars + marks if field == MARKED else bars).properties(width=each, height=ROW * len(rows)))
    return alt.hconcat(*charts, spacing=24)


def _skyline(rows: Sequence[dict[str, Any]], panels: Sequence[str], width: int) -> Any:
    alt = plotting()
    colour = _colour(alt, rows)
    charts = []
    for place, field in enumerate(panels):
        last = place == len(panels) - 1
        x_axis = alt.Axis(grid=False, tickMinStep=1, tickCount=10, labelFlush=False) if last else None
        base = alt.Chart(named("layers")).encode(
            x=alt.X("at:Q", title="layers, in the order in which they run" if last else None,
                    axis=x_axis, scale=alt.Scale(domain=[0, len(rows)], nice=False)),
            y=alt.Y(f"{field}:Q", title=_PANELS[field][0], scale=_scale(alt, field),
                    axis=alt.Axis(tickCount=3, minExtent=46)),
        )  # fmt: skip
        bars = base.mark_rect(aria=False).encode(x2="next:Q", y2=alt.Y2Datum(0), color=colour)
        marks = base.mark_text(
            align="left", baseline="bottom", dx=-4, color=SERIES[1], fontWeight=700, aria=False
        ).encode(x="at:Q", y=alt.value(-1), text="above:N")
        charts.append((bars + marks if field == MARKED else bars).properties(width=width - 100, height=SKYLINE))
    return alt.vconcat(*charts, spacing=14)
