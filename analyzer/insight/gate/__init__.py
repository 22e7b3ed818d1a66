"""The gate: did the new runs become slower than the baseline, and which operators did it."""

from analyzer.insight.gate.gate import hold_against
from analyzer.insight.gate.run import gate_run

__all__ = ["gate_run", "hold_against"]
