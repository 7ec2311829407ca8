"""The same variant on this machine, to hold the device against."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from edgekit.bundle import Bundle
from edgekit.errors import EngineError
from edgekit.manifest import Variant
from edgekit.runtime import open_session
from edgekit.runtime.choosing import Choice
from edgekit.runtime.golden import read_golden
from edgekit.runtime.sequences import run_samples
from edgekit.tensors import Array


def run_here(bundle: Bundle, variant: Variant) -> tuple[Mapping[str, Array], Choice]:
    """Its outputs on the golden inputs, and what gave them; the test skips where it does not run here."""
    try:
        with open_session(bundle, variant=variant.id, engine=variant.engine) as session:
            return run_samples(session, read_golden(bundle).inputs), session.choice
    except EngineError as problem:
        pytest.skip(f"{variant.id} does not run on this machine, to compare with: {problem}")


def left_by(delegate: str, *choices: Choice) -> str | None:
    """Which operators other kernels run, in the words of the first session that says so."""
    notes = (note for choice in choices for note in choice.notes)
    return next((note for note in notes if f"not run by {delegate}" in note), None)


def kernels(choice: Choice) -> str:
    """ "ai-edge-litert 2.1.6, cpu (XNNPACK)"."""
    return f"{choice.package} {choice.engine_version}, {choice.accelerator}"
