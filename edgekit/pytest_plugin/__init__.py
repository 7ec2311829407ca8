"""The harness: bundles on devices, as pytest options, fixtures and markers.

pytest loads this package wherever edgekit is installed, so it imports nothing heavy before a fixture is used.
"""

from edgekit.pytest_plugin.fixtures import (
    edgekit_admitted,
    edgekit_baseline,
    edgekit_bundle,
    edgekit_deployed,
    edgekit_device,
    edgekit_evaluation,
    edgekit_golden,
    edgekit_golden_run,
    edgekit_language_device,
    edgekit_options,
    edgekit_probe,
    edgekit_record,
    edgekit_texts,
    edgekit_traits,
    edgekit_variant,
)
from edgekit.pytest_plugin.gating import edgekit_gate, note_verdict
from edgekit.pytest_plugin.harness import Record
from edgekit.pytest_plugin.hooks import (
    pytest_addoption,
    pytest_configure,
    pytest_generate_tests,
    pytest_ignore_collect,
    pytest_itemcollected,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    pytest_sessionfinish,
    pytest_sessionstart,
)
from edgekit.pytest_plugin.options import Options

__all__ = [
    "Options",
    "Record",
    "edgekit_admitted",
    "edgekit_baseline",
    "edgekit_bundle",
    "edgekit_deployed",
    "edgekit_device",
    "edgekit_evaluation",
    "edgekit_gate",
    "edgekit_golden",
    "edgekit_golden_run",
    "edgekit_language_device",
    "edgekit_options",
    "edgekit_probe",
    "edgekit_record",
    "edgekit_texts",
    "edgekit_traits",
    "edgekit_variant",
    "note_verdict",
    "pytest_addoption",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_ignore_collect",
    "pytest_itemcollected",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_sessionstart",
]
