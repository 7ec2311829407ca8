"""What is known of NVIDIA's boards without one at hand: jetpacks.toml, with its sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import tomllib

from edgekit.strict import parse


@dataclass(frozen=True)
class JetPack:
    """What one release brings."""

    tensorrt: str
    cuda: str
    python: str
    modules: tuple[str, ...]  # that it runs on


@dataclass(frozen=True)
class JetPacks:
    """All releases that are known."""

    sources: tuple[str, ...]
    l4t: Mapping[str, str]  # Jetson Linux's version, "36.4.3" -> JetPack's
    modules: Mapping[str, str]  # name -> the compute capability of its GPU, "SM87"
    releases: Mapping[str, JetPack]  # "6.2" stands for 6.2.1 too

    def find(self, version: str) -> JetPack | None:
        """The release of "6.2.1"; None where it is not known."""
        return self.releases.get(".".join(version.split(".")[:2]))

    def of_l4t(self, version: str) -> str | None:
        """JetPack's version by Jetson Linux's, "36.4.3" or "36.4"; None where it is not known."""
        return self.l4t.get(version) or self.l4t.get(f"{version}.0")

    def compute_capabilities(self, release: JetPack) -> tuple[str, ...]:
        """Of the GPUs that a release runs on, each once."""
        return tuple(dict.fromkeys(self.modules[module] for module in release.modules))


@cache
def load_jetpacks() -> JetPacks:
    """The table that edgekit ships."""
    text = files("edgekit").joinpath("jetpacks.toml").read_text(encoding="utf-8")
    return parse(JetPacks, tomllib.loads(text), where="jetpacks.toml")
