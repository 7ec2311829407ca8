"""Writes docs/tflite-results.md from examples/figures/tflite-*.json: no figure is typed by hand.

python benchmarks/tflite_page.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from benchmarks import tflite_agreement, tflite_mixed
from benchmarks.tflite_memory import WORKERS
from benchmarks.tflite_sides import PRECISIONS, SIDES
from benchmarks.tflite_tools import CALIBRATION, ROOT, SUBJECTS
from edgekit.files import write_text
from examples.efficientnet_lite0 import TEST_CROPS, TEST_PHOTOS
from examples.results_page import read, table

PAGE = ROOT / "docs" / "tflite-results.md"
NAMES = {"edgekit": "edgekit", "converter": "TFLiteConverter", "quantizer": "Keras export and litert-quantizer"}
DATA = {
    "digits": "The demo's CNN of 109,330 parameters on MNIST digits; accuracy on 1,000 held-back digits.",
    "efficientnet-lite0": (
        "ImageNet weights at 224 × 224, calibrated on crops of 14 photos; accuracy is agreement with the Keras model's "
        "class on 100 crops of five other photos."
    ),
}
COSTS = ("", "files", "seconds", "shares", "processor seconds", "shares", "peak MiB", "each page once")
HEAD = """\
# TFLite against the plain tools, measured

Written by `python benchmarks/tflite_page.py` from the figures that `benchmarks/tflite_tools.py`, `tflite_memory.py`,
`tflite_sparse.py`, `tflite_agreement.py` and `tflite_mixed.py` left in `examples/figures/`, on 2 shared cores of an
x86-64 machine with AVX-512 VNNI that had other work at the same time: processor seconds say more than wall seconds.
Memory is the resident sets of all processes
of a side together, pages that they share counted in each, sampled every 50 ms; "each page once" is the sum of their
proportional shares, and "anonymous" is without mapped files.
"""

RESULT = """\
## What it comes to

- **Files.** edgekit's are a little smaller than TFLiteConverter's, with the same SNR or more: most of all in int8 and
  int16x8 of EfficientNet-Lite0, whose biases it corrects. litert-quantizer called plainly averages ranges, where
  edgekit takes the extremes. No constant is stored twice.
- **Time.** On a tiny model most of it is the import of TensorFlow, which edgekit does twice: in its own process, and in
  the one that exports, so that a model that crashes TensorFlow's converter does not end the build. One plain script
  with litert-quantizer does without, and is faster. The model is opened as the user's own (`trusted`); a file from
  elsewhere is tried in a process of its own first, which imports TensorFlow once more, meanwhile.
- **Memory.** At 100 million parameters calibration and quantization stay within three times the float size, beyond the
  libraries; the export from Keras takes five times, and all of it half of what TFLiteConverter does, in a script that
  leaves TensorFlow's oneDNN allocator on. On a tiny model edgekit takes more, because two of its processes hold
  TensorFlow. ONNX of large models needs much memory.
- **Sparse encoding** does not pay, and edgekit writes none. In the bundle, which is a zip, the dense fp32 file of a
  network with zeros is about as small, and the dense int8 file smaller; LiteRT does not open the sparse int8 file, and
  is no faster with the fp32 one.
"""


def main() -> None:
    """Write the page."""
    write_text(PAGE, page())


def page() -> str:
    """The page's text."""
    sections = (_tools, _agreement, _mixed, _memory, _sparse)
    return "\n".join([HEAD, RESULT, *(line for section in sections for line in section())])


def _tools() -> Iterator[str]:
    figures = read("tflite-tools")
    yield "## Seven precisions of one model\n"
    yield (
        "edgekit makes all seven in one session from one export. TFLiteConverter is started once for each of the six "
        "that it has (no int4 weights): the times are the sums. litert-quantizer is called for each precision in one "
        "script, after Keras's own export. Whole processes with their imports, which a first one has read from the "
        "disk; all sides take turns in each round. The first share is of TFLiteConverter's time, the second of what it "
        "takes for as many files. `python benchmarks/tflite_tools.py`\n"
    )
    for subject in SUBJECTS:
        if f"{subject}, files" in figures:
            yield f"### {subject}\n"
            rounds = sum(key.startswith(f"{subject}, edgekit, ") for key in figures)
            yield f"{DATA[subject]} {CALIBRATION[subject]} calibration samples. Rounds: {rounds}.\n"
            yield from table(COSTS, _costs(figures, subject))
            yield from _files(figures[f"{subject}, files"])


def _costs(figures: Mapping[str, Any], subject: str) -> list[list[str]]:
    rounds = {side: [each for key, each in figures.items() if key.startswith(f"{subject}, {side}, ")] for side in SIDES}
    seconds, busy = (
        {side: [each[kind] for each in entries] for side, entries in rounds.items()} for kind in ("wall_s", "cpu_s")
    )
    files = {side: len(figures[f"{subject}, files"][side]) for side in SIDES}
    return [
        [
            NAMES[side],
            str(files[side]),
            *_shares(seconds, side, files),
            *_shares(busy, side, files),
            f"{median(each['peak_mib'] for each in rounds[side]):,.0f}",
            f"{median(each['shared_once_mib'] for each in rounds[side]):,.0f}",
        ]
        for side in SIDES
    ]


def _shares(seconds: Mapping[str, list[float]], side: str, files: Mapping[str, int]) -> tuple[str, str]:
    """The median with the least and the largest, and its share of TFLiteConverter's: in all, and for each file."""
    own = seconds[side]
    spread = f" ({min(own):.1f} to {max(own):.1f})" if len(own) > 1 else ""
    share = median(own) / median(seconds["converter"])
    return f"{median(own):.1f}{spread}", f"{share:.2f}, {share * files['converter'] / files[side]:.2f}"


def _files(entries: Mapping[str, Any]) -> Iterator[str]:
    yield f"The Keras model's accuracy is {entries['keras']['top1']:.1%}. Bytes, SNR against Keras, accuracy:\n"
    rows = [[name, *(_file(entries[side].get(name)) for side in SIDES)] for name in PRECISIONS]
    yield from table(["precision", *NAMES.values()], rows)


def _file(entry: Mapping[str, Any] | None) -> str:
    return "none" if entry is None else f"{entry['bytes']:,}, {entry['snr_db']:.1f} dB, {entry['top1']:.1%}"


def _agreement() -> Iterator[str]:
    figures = read("tflite-agreement")
    if not figures:
        return
    yield "## Settings, on photos\n"
    crops, sure = len(TEST_PHOTOS) * TEST_CROPS, figures["fp32"]["sure"]
    yield (
        f"EfficientNet-Lite0 on ImageNet weights, {tflite_agreement.USUAL} calibration samples unless said otherwise. "
        f"Agreement is with the Keras model's class on {crops} crops of {len(TEST_PHOTOS)} photos. Two of them (a "
        "retina, a field of galaxies) show nothing that ImageNet has a class for, so that it is also given for the "
        f"{sure} crops whose class has a probability of {tflite_agreement.SURE:.0%} or more in Keras. "
        "`python benchmarks/tflite_agreement.py`\n"
    )
    rows = [
        [
            recipe.name,
            f"{entry['bytes']:,}",
            f"{entry['snr_db']:.1f} dB",
            f"{entry['agreement']:.1%}",
            f"{entry['agreement_where_sure']:.1%}",
        ]
        for recipe in tflite_agreement.RECIPES
        if (entry := figures.get(recipe.name))
    ]
    yield from table(["file", "bytes", "SNR", "agreement", "where Keras is sure"], rows)


def _mixed() -> Iterator[str]:
    figures = read("tflite-mixed")
    if not figures:
        return
    found, shape = figures["transformer"], tflite_mixed.SHAPE
    yield "## Which operators of a transformer pay in integers\n"
    yield (
        f"An encoder of {shape['blocks']} blocks, width {shape['width']}, {shape['heads']} heads, {shape['size']} "
        f"tokens, {found['parameters']:,} parameters, random weights. Latency is the median of {tflite_mixed.RUNS} "
        "runs, one thread, all files in turns. `python benchmarks/tflite_mixed.py`\n"
    )
    rows = [
        [
            name,
            f"{entry['bytes']:,}",
            f"{entry['snr_db']:.1f} dB",
            f"{entry['median_ms']:.2f}",
            f"{entry['p90_ms']:.2f}",
        ]
        for name in tflite_mixed.RECIPES
        if (entry := found.get(name))
    ]
    yield from table(["file", "bytes", "SNR", "median ms", "p90 ms"], rows)


def _memory() -> Iterator[str]:
    figures = read("tflite-memory")
    if not figures:
        return
    yield "## Memory\n"
    bare = {name: entry["peak_mib"] for name, entry in figures.items() if name.startswith("bare ")}
    yield (
        "int8 with 20 calibration samples; most parameters in one dense layer. A process that has only imported its "
        f"libraries takes: {', '.join(f'{name[5:]} {peak:,} MiB' for name, peak in bare.items())}. The last columns "
        "are the peaks while edgekit's workers ran, its own process included. `python benchmarks/tflite_memory.py`\n"
    )
    rows = []
    for key, entry in figures.items():
        size, _, way = key.partition(" M, ")
        if not way or way == "parameters":
            continue
        floats = 4 * figures[f"{size} M, parameters"] / (1 << 20)
        taken = ["peak_mib", "anonymous_mib", *WORKERS]
        peaks = [f"{entry[word]:,}" if word in entry else "" for word in taken]
        if "stopped_at_mib" in entry:
            peaks[0] = f"more than {entry['stopped_at_mib']:,.0f}: stopped"
        rows.append([size, way, f"{floats:,.0f}", *peaks])
    rows.sort(key=lambda row: float(row[0]))
    head = ["million parameters", "way", "float MiB", "peak MiB", "anonymous", "export", "calibration", "quantization"]
    yield from table(head, rows)


def _sparse() -> Iterator[str]:
    figures = read("tflite-sparse")
    if not figures:
        return
    yield "## Sparse encoding\n"
    yield (
        "TFLiteConverter's EXPERIMENTAL_SPARSITY against the same network stored dense; latency is the median of 200 "
        "runs, one thread, all files of a network and precision in turns. `python benchmarks/tflite_sparse.py`\n"
    )
    rows = [
        [
            f"{subject}, {name}",
            str(entry["sparse_tensors"]),
            f"{entry['bytes']:,}",
            f"{entry['zipped']:,}",
            f"does not open: {entry['refused']}" if entry["refused"] else f"{entry['median_ms']:.3f}",
        ]
        for subject, entries in figures.items()
        for name, entry in entries.items()
    ]
    yield from table(["network, precision, zeros, encoding", "sparse tensors", "bytes", "zipped", "ms"], rows)


if __name__ == "__main__":
    main()
