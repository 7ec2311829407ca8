"""The regression gate: is one bundle slower than another on a device, or can that not be said?"""

from edgekit.gate.baselines import check_baseline
from edgekit.gate.floors import Floor, find_floor, save_floor
from edgekit.gate.guard import Guard, TooHotError
from edgekit.gate.running import NOT_CALIBRATED, Calibration, GateResult, PairSamples, describe, measure_floor, run_gate
from edgekit.gate.statistics import FAIL, INCONCLUSIVE, LEAST_FLOOR, PASS, Estimate, GateSettings, estimate, judge

__all__ = [
    "FAIL",
    "INCONCLUSIVE",
    "LEAST_FLOOR",
    "NOT_CALIBRATED",
    "PASS",
    "Calibration",
    "Estimate",
    "Floor",
    "GateResult",
    "GateSettings",
    "Guard",
    "PairSamples",
    "TooHotError",
    "check_baseline",
    "describe",
    "estimate",
    "find_floor",
    "judge",
    "measure_floor",
    "run_gate",
    "save_floor",
]
