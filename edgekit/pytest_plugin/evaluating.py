"""The labelled data of a session, read before any test: data that does not fit is a mistake, not a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgekit.errors import EdgekitError
from edgekit.pytest_plugin.options import Options

if TYPE_CHECKING:
    from edgekit.data import Data

EVALUATION: pytest.StashKey[Data | None] = pytest.StashKey()


def read_evaluation(options: Options) -> Data | None:
    """Labelled samples, spread over the data of --edgekit-evaluation, if any. Raises UsageError."""
    if options.bundle is None or options.evaluation is None:
        return None
    from edgekit.bundle import Bundle
    from edgekit.data import load_data
    from edgekit.evaluation import find_metric

    try:
        if options.metric is not None:
            find_metric(options.metric)
        with Bundle.open(options.bundle) as bundle:
            manifest = bundle.manifest
        specs, in_steps = [item.spec for item in manifest.inputs], manifest.golden.steps is not None
        data = load_data(options.evaluation, specs, where="--edgekit-evaluation", any_labels=True, in_steps=in_steps)
    except EdgekitError as problem:
        raise pytest.UsageError(str(problem)) from problem
    return data.spread(options.samples)
