"""Releases: the gate a challenger must pass, and the canary it is released by."""

from raymlops.release.callers import refused_callers
from raymlops.release.canary import (
    CANARY,
    CHAMPION,
    Act,
    Advance,
    CanaryPolicy,
    CanaryState,
    Evidence,
    Promote,
    RollBack,
    Wait,
    decide,
)
from raymlops.release.compare import compare
from raymlops.release.controller import ReleaseController
from raymlops.release.gate import Comparison, GatePolicy, Verdict, judge

__all__ = [
    "CANARY",
    "CHAMPION",
    "Act",
    "Advance",
    "CanaryPolicy",
    "CanaryState",
    "Comparison",
    "Evidence",
    "GatePolicy",
    "Promote",
    "ReleaseController",
    "RollBack",
    "Verdict",
    "Wait",
    "compare",
    "decide",
    "judge",
    "refused_callers",
]
