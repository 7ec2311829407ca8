"""What a build found: as a value, as JSON, and as one self-contained HTML page."""

from edgekit.report.assemble import Findings, assemble
from edgekit.report.facts import BuildReport, ModelFacts, VariantFacts, to_json
from edgekit.report.page import write_report

__all__ = ["BuildReport", "Findings", "ModelFacts", "VariantFacts", "assemble", "to_json", "write_report"]
