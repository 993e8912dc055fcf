"""Drift of 50 numeric features: binned counts against scipy's two-sample test a column."""

from __future__ import annotations

import argparse
import tracemalloc

import numpy as np
from scipy.stats import ks_2samp

from benchmarks.figures import Figure, paired_medians, report
from raymlops.data import Feature, Profile
from raymlops.monitor import DriftPolicy, compare

NUM_FEATURES = 50
REFERENCE_ROWS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out a million rows")
    arguments = parser.parse_args()
    sizes = (10_000, 100_000) if arguments.quick else (10_000, 100_000, 1_000_000)
    features = tuple(Feature(name=f"x{number}", kind="number") for number in range(NUM_FEATURES))
    rng = np.random.default_rng(0)

    def draw(rows: int) -> dict[str, np.ndarray]:
        return {feature.name: rng.normal(size=rows) for feature in features}

    reference = draw(REFERENCE_ROWS)
    scores = np.zeros(REFERENCE_ROWS, dtype=np.float32)
    profile = Profile.of(features, reference, scores, label_rate=0.5, log_loss=0.7)
    figures = []
    for rows in sizes:
        window = draw(rows)
        nothing = np.zeros(rows, dtype=np.float32)

        def ours() -> None:
            compare(profile, profile.count(window, nothing), DriftPolicy())  # noqa: B023

        def scipy() -> None:
            for name, column in window.items():  # noqa: B023
                ks_2samp(reference[name], column, method="asymp")

        mine, theirs = paired_medians(ours, scipy, repeats=3)
        tracemalloc.start()
        ours()
        peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        figures += [
            Figure(
                name=f"drift_{rows}_rows_s",
                unit="s",
                ours=mine,
                references={"scipy ks_2samp a column": theirs},
            ),
            Figure(
                name=f"drift_{rows}_rows_speedup_ratio",
                unit="times",
                ours=theirs / mine,
                references={"scipy ks_2samp a column": 1.0},
                goal="> 1",
                met=theirs > mine,
            ),
            Figure(name=f"drift_{rows}_rows_extra_mb", unit="MB", ours=peak_mb, references={}),
        ]
    report("drift", figures)


if __name__ == "__main__":
    main()
