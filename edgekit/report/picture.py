"""The picture of a build: latency as distributions, one row for each variant."""

from __future__ import annotations

import io
from collections.abc import Sequence

from edgekit.report.facts import VariantFacts

_LOWER_BETTER = "#2f6f9f"


def latency_picture(variants: Sequence[VariantFacts]) -> str:
    """An inline SVG of box plots (median, quartiles, 1st to 99th percentile); empty when nothing was timed."""
    timed = [variant for variant in variants if variant.samples_ms]
    if not timed:
        return ""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 0.9 + 0.38 * len(timed)), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.boxplot(
        [variant.samples_ms for variant in timed],
        orientation="horizontal",
        tick_labels=[variant.id for variant in timed],
        whis=(1, 99),
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": _LOWER_BETTER, "alpha": 0.55},
        medianprops={"color": "black"},
    )
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds per inference (box: quartiles; whiskers: 1st to 99th percentile)")
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "edgekit"}):  # the same figures give the same bytes
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]
