"""`edgekit doctor`: what works on this machine and how to get the rest."""

from __future__ import annotations

import argparse
import dataclasses
import platform

import edgekit
from edgekit.cli.output import emit
from edgekit.cli.table import table
from edgekit.doctor import examine


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """`edgekit doctor` takes none of its own."""


def run(args: argparse.Namespace) -> int:
    """Print one line for each part; 0 always, since a device side alone is a healthy machine too."""
    findings = examine()
    rows = [("part", "here", "packages or remedy")]
    for finding in findings:
        packages = ", ".join(f"{name} {version}" for name, version in finding.packages.items() if version)
        rows.append((finding.part, "yes" if finding.works else "no", finding.remedy or packages))
    machine = {"edgekit": edgekit.__version__, "python": platform.python_version(), "machine": platform.machine()}
    head = f"edgekit {edgekit.__version__}, Python {machine['python']}, {platform.system()} {machine['machine']}"
    emit(args, {**machine, "parts": [dataclasses.asdict(finding) for finding in findings]}, f"{head}\n\n{table(rows)}")
    return 0
