"""Concept drift: is what a model gets wrong more than it was? One contract, a module a detector."""

from collections.abc import Mapping
from typing import Any, Literal

from raymlops.monitor.detectors.adwin import Adwin
from raymlops.monitor.detectors.base import Detector, State
from raymlops.monitor.detectors.cusum import Cusum
from raymlops.monitor.detectors.ddm import Ddm
from raymlops.monitor.detectors.eddm import Eddm
from raymlops.monitor.detectors.kswin import Kswin
from raymlops.monitor.detectors.page_hinkley import PageHinkley

DetectorName = Literal["cusum", "adwin", "ddm", "eddm", "page_hinkley", "kswin"]

DETECTORS: Mapping[str, type[Detector[Any]]] = {
    member.kind: member for member in (Cusum, Adwin, Ddm, Eddm, PageHinkley, Kswin)
}

__all__ = [
    "DETECTORS",
    "Adwin",
    "Cusum",
    "Ddm",
    "Detector",
    "DetectorName",
    "Eddm",
    "Kswin",
    "PageHinkley",
    "State",
]
