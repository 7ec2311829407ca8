"""How long the report of a large model takes to make and to open.

    python benchmarks/report_page.py OUT [--layers 500]

`OUT` is the folder of a build. The layers of its variants are repeated until there are enough of them. The page is made
in this process, the first time with the imports, and opened by Debian's chromium from a file; what is timed there is
from the start of the navigation to the first picture that is painted after the load. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from edgekit.layer_figures import VariantLayers
from edgekit.report import BuildReport, read_report, write_report

ROUNDS = 5
_PAINTED = (
    """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"""
)


def main() -> None:
    """Measure with one variant and with all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, metavar="OUT")
    parser.add_argument("--layers", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    found = enlarged(read_report(args.build), args.layers)
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        figures = {
            "one_variant": measure(replace(found, layers=found.layers[:1]), Path(folder), browser, args.rounds),
            f"{len(found.layers)}_variants": measure(found, Path(folder), browser, args.rounds),
        }
        browser.close()
    print(json.dumps({"layers": args.layers, "rounds": args.rounds, **figures}, indent=2))


def enlarged(report: BuildReport, count: int) -> BuildReport:
    """The report with `count` layers in every variant."""
    return replace(report, layers=tuple(_repeated(found, count) for found in report.layers))


def _repeated(found: VariantLayers, count: int) -> VariantLayers:
    whole = len(found.layers)
    return replace(
        found,
        layers=tuple(
            replace(layer, name=f"block_{number}_{layer.name}", culprit=layer.culprit if number < whole else None)
            for number, layer in enumerate(islice(cycle(found.layers), count))
        ),
    )


def measure(report: BuildReport, folder: Path, browser: Browser, rounds: int) -> dict[str, Any]:
    """Seconds to make all files, milliseconds to open the page, and its size."""
    made_s, opened_ms = [], []
    for _ in range(rounds):
        start = perf_counter()
        files = write_report(report, folder)
        made_s.append(round(perf_counter() - start, 3))
    for _ in range(rounds):
        page = browser.new_page()
        page.goto(files.html.as_uri())
        opened_ms.append(round(page.evaluate(_PAINTED), 1))
        page.close()
    return {
        "html_bytes": files.html.stat().st_size,
        "json_bytes": files.json.stat().st_size,
        "made_s": made_s,
        "median_made_s": statistics.median(made_s),
        "opened_ms": opened_ms,
        "median_opened_ms": statistics.median(opened_ms),
    }


if __name__ == "__main__":
    main()
