"""The drift tests by name."""

from __future__ import annotations

from collections.abc import Mapping

from raymlops.data.drift.base import DriftTest
from raymlops.data.drift.chi_square import ChiSquare
from raymlops.data.drift.jensen_shannon import JensenShannon
from raymlops.data.drift.kolmogorov_smirnov import KolmogorovSmirnov
from raymlops.data.drift.missing_share import MissingShare
from raymlops.data.drift.psi import PopulationStability
from raymlops.data.drift.wasserstein import Wasserstein

TESTS: Mapping[str, DriftTest] = {
    test.name: test
    for test in (
        KolmogorovSmirnov(),
        MissingShare(),
        ChiSquare(),
        PopulationStability(),
        JensenShannon(),
        Wasserstein(),
    )
}
