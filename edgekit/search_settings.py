"""What a project file says of the search for its recipe: the table `[search]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekit.compression import checks
from edgekit.errors import ConfigError

LEAST_TRIALS = 4
SEARCHED_STEPS = ("prune-channels", "factorize", "prune")


@dataclass(frozen=True)
class SearchSettings:
    """How `edgekit search` goes about it; `edgekit build` passes over it. Raises ConfigError."""

    target: str | None = None  # whose first variant is searched for; None: the only target of the project
    device: str | None = None  # the URL of the device that latency is measured on; None: the project's
    trials: int = 40  # recipes that are made and measured without training
    finalists: int = 5  # of them, recipes that are trained in full
    epochs: int = 6  # of training that a finalist gets, over all of its steps
    seed: int = 0
    bytes: Literal["file", "packed"] = "file"  # what "small" means: the file, or what it takes inside the bundle
    steps: tuple[str, ...] = ("prune-channels", "factorize")  # beside the precisions of the target and of its layers
    max_peak_rss_bytes: int | None = None  # of the process on the device that holds and runs the variant

    def __post_init__(self) -> None:
        checks.whole("search.trials", self.trials, least=LEAST_TRIALS)
        checks.whole("search.finalists", self.finalists, least=1)
        checks.whole("search.epochs", self.epochs, least=1)
        checks.whole("search.seed", self.seed, least=0)
        checks.choice("search.bytes", self.bytes, ("file", "packed"))
        for step in self.steps:
            checks.choice("search.steps", step, SEARCHED_STEPS)
        if self.max_peak_rss_bytes is not None:
            checks.whole("search.max_peak_rss_bytes", self.max_peak_rss_bytes, least=1)
        if self.finalists > self.trials:
            raise ConfigError(f"search.finalists is {self.finalists}, more than the {self.trials} of search.trials")
        if "prune" in self.steps and self.bytes == "file":
            raise ConfigError(
                'search.steps has "prune", whose zeros take their place in a file and none when it is packed: '
                'leave it out, or set bytes = "packed"'
            )
