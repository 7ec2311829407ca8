"""What a build found: as a value, as JSON, and as one self-contained HTML page."""

from edgekit.report.assemble import Findings, assemble
from edgekit.report.facts import BuildReport, ModelFacts, VariantFacts, to_json
from edgekit.report.reading import read_report
from edgekit.report.samples import sample_facts
from edgekit.report.writing import ReportFiles, write_report

__all__ = [
    "BuildReport", "Findings", "ModelFacts", "ReportFiles", "VariantFacts", "assemble", "read_report", "sample_facts",
    "to_json", "write_report",
]  # fmt: skip
