"""The exporter contract: from a bundle to the folder that another system reads, and how an exporter is found.

Ours and anybody else's come through the same door: the entry-point group `edgekit.exporters`, whose name is what
`edgekit convert BUNDLE --to NAME` says and whose value is an object with this Protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from edgekit.bundle import Bundle
from edgekit.conversion import find_installed
from edgekit.runtime.choosing import Rejected

EXPORTERS = "edgekit.exporters"


@dataclass(frozen=True)
class Exported:
    """What an exporter wrote."""

    folder: Path
    files: tuple[Path, ...]  # written or replaced, below `folder` and what stands beside it
    variant: str
    reason: str  # why this variant
    left_out: tuple[Rejected, ...]  # every other variant
    notes: tuple[str, ...]  # what the user must know


class BundleExporter(Protocol):
    """Writes what a bundle holds as another system wants it. It converts no model: a converter did that."""

    def with_options(self, options: object, *, where: str) -> BundleExporter:
        """This exporter with the user's settings: a table of keys and values.

        `where` is for the message. Raises ConfigError on an unknown key or value.
        """
        ...

    def export(self, bundle: Bundle, output: Path) -> Exported:
        """Write into the folder `output`, whole or not at all; what is there already and not its own stays.

        Raises ConversionError when the bundle holds nothing that the other system takes, ConfigError, OutputError.
        """
        ...


def exporter_names() -> tuple[str, ...]:
    """The names of the installed exporters."""
    return tuple(sorted(point.name for point in entry_points(group=EXPORTERS)))


def find_exporter(name: str) -> BundleExporter:
    """An exporter by its entry-point name. Raises ConversionError that lists what is installed."""
    exporter: BundleExporter = find_installed(EXPORTERS, name).load()
    return exporter
