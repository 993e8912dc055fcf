"""Drift of 50 numeric features: how fast, beside scipy, Evidently and NannyML; and how honest."""

from __future__ import annotations

import argparse
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.stats import ks_2samp

from benchmarks import drift_claims as claims
from benchmarks.figures import Figure, paired_medians, report
from raymlops.data import Columns, Feature, Profile
from raymlops.monitor import DriftPolicy, compare

NUM_FEATURES = 50
PEER_ROWS = 100_000
ALPHA = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, scipy on 5 columns")
    for peer in ("evidently", "nannyml"):
        parser.add_argument(f"--{peer}", help=f"the Python of an environment that has {peer}")
    arguments = parser.parse_args()
    peers = {name: getattr(arguments, name) for name in ("evidently", "nannyml")}
    figures = [
        *speed(quick=arguments.quick, peers={k: v for k, v in peers.items() if v}),
        *honesty(rounds=100 if arguments.quick else 600),
    ]
    report("drift", figures)


def speed(*, quick: bool, peers: dict[str, str]) -> Iterator[Figure]:
    rng = np.random.default_rng(0)
    for rows in (10_000, 100_000, 1_000_000):
        reference = _draw(rng, rows)
        yield from _beside_scipy(_profile(reference), reference, _draw(rng, rows), quick=quick)
    if peers:
        yield from _beside(peers, _profile(_draw(rng, PEER_ROWS)), _draw(rng, PEER_ROWS))


def _profile(reference: Columns) -> Profile:
    features = tuple(Feature(name=name, kind="number") for name in reference)
    scores = np.zeros(len(reference["x0"]), dtype=np.float32)
    return Profile.of(features, reference, scores, label_rate=0.5, log_loss=0.7)


def cpu_seconds(call: Callable[[], object]) -> float:
    """What all threads together spend, the least of three times: whatever else the machine does."""
    spent = []
    for _ in range(3):
        started = time.process_time()
        call()
        spent.append(time.process_time() - started)
    return min(spent)


def _draw(rng: np.random.Generator, rows: int) -> Columns:
    return {f"x{number}": rng.normal(size=rows) for number in range(NUM_FEATURES)}


def _beside_scipy(
    profile: Profile, reference: Columns, window: Columns, *, quick: bool
) -> Iterator[Figure]:
    rows = len(window["x0"])
    names = list(window)[: 5 if quick else NUM_FEATURES]
    nothing = np.zeros(rows, dtype=np.float32)

    def ours() -> None:
        compare(profile, profile.count(window, nothing), DriftPolicy())

    def scipy() -> None:
        for name in names:
            ks_2samp(reference[name], window[name], method="asymp")

    mine, theirs = paired_medians(ours, scipy, repeats=3)
    theirs *= NUM_FEATURES / len(names)
    peer = "scipy ks_2samp a column"
    largest = rows == 1_000_000
    yield Figure(
        name=f"drift_{rows}_rows_s",
        unit="s",
        ours=mine,
        references={peer: theirs},
        goal="<= 0.25" if largest else None,
        met=mine <= 0.25 if largest else None,
    )
    yield Figure(
        name=f"drift_{rows}_rows_speedup_ratio",
        unit="times",
        ours=theirs / mine,
        references={peer: 1.0},
        goal=">= 30" if rows >= PEER_ROWS else None,
        met=theirs >= 30 * mine if rows >= PEER_ROWS else None,
    )
    busy, theirs_busy = cpu_seconds(ours), cpu_seconds(scipy) * NUM_FEATURES / len(names)
    yield Figure(
        name=f"drift_{rows}_rows_cpu_s",
        unit="s",
        ours=busy,
        references={peer: theirs_busy},
    )
    tracemalloc.start()
    ours()
    peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    yield Figure(
        name=f"drift_{rows}_rows_extra_mb",
        unit="MB",
        ours=peak_mb,
        references={},
        goal="<= 20",
        met=peak_mb <= 20,
    )


def _beside(peers: dict[str, str], profile: Profile, window: Columns) -> Iterator[Figure]:
    """What the same check takes by each peer, in a process of its own that imports it first."""
    nothing = np.zeros(PEER_ROWS, dtype=np.float32)

    def ours() -> None:
        compare(profile, profile.count(window, nothing), DriftPolicy())

    for peer, python in peers.items():
        script = Path(__file__).parent / "peers" / f"drift_{peer}.py"
        command = [python, str(script), str(PEER_ROWS), str(NUM_FEATURES)]
        mine, _ = paired_medians(ours, lambda: None, repeats=3)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        theirs = float(done.stdout.splitlines()[-1])
        yield Figure(
            name=f"drift_{PEER_ROWS}_rows_over_{peer}_ratio",
            unit="times",
            ours=theirs / mine,
            references={peer: 1.0},
            goal=">= 20" if peer == "evidently" else None,
            met=theirs >= 20 * mine if peer == "evidently" else None,
        )


def honesty(*, rounds: int) -> Iterator[Figure]:
    """False alarms without floors under the effects, power with the policy as it comes."""
    for kind, draw in (("continuous", claims.independent), ("tied", claims.tied)):
        for rows in (1_000, 100_000, 1_000_000):
            share = claims.false_alarms(draw, rows, rounds)
            yield _at_most(f"drift_false_alarms_{kind}_{rows}_rows", share, ALPHA)
    for rows, fewer in ((1_000, 1), (100_000, 15)):
        share = claims.false_alarms(claims.correlated, rows, max(3, rounds // fewer))
        yield _at_most(f"drift_false_alarms_correlated_heavy_{rows}_rows", share, ALPHA)
    looks = claims.false_alarms_over_looks(100, 1_000, max(10, rounds // 10))
    yield _at_most("drift_false_alarms_over_100_looks", looks, ALPHA)
    found = claims.power(0.1, 10_000, rounds)
    yield Figure(
        name="drift_power_tenth_sigma_10000_rows",
        unit="share",
        ours=found,
        references={},
        goal=">= 0.99",
        met=found >= 0.99,
    )
    irrelevant = claims.alarms(0.005, 1_000_000, max(10, rounds // 10))
    yield _at_most("drift_alarms_200th_sigma_1000000_rows", irrelevant, 0, unit="alarms")


def _at_most(name: str, value: float, limit: float, *, unit: str = "share") -> Figure:
    return Figure(
        name=name,
        unit=unit,
        ours=value,
        references={},
        goal=f"<= {limit:g}",
        met=value <= limit,
    )


if __name__ == "__main__":
    main()
