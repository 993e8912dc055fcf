"""Concept drift: the error rate doubles from 0.1 to 0.2. How long until a detector says so?"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import drift
from river.drift import binary

from benchmarks.figures import Figure, report, seconds
from raymlops.monitor.detectors import Adwin, Cusum, Ddm, Detector, Eddm, Kswin, PageHinkley

BEFORE, AFTER = 0.1, 0.2
NUM_BEFORE, NUM_AFTER = 2_000, 3_000
MAX_FALSE_ALARMS = 1e-4
BLOCK = 1024

Stream = NDArray[np.float64]
Alarms = Callable[[Stream], list[int]]


def ours(make: Callable[[], Detector[Any]]) -> Alarms:
    return lambda stream: list(make().feed(stream))


def rivers(make: Callable[[], Any]) -> Alarms:
    def alarms(stream: Stream) -> list[int]:
        detector, found = make(), []
        for index, error in enumerate(stream.tolist()):
            detector.update(error)
            if detector.drift_detected:
                found.append(index)
        return found

    return alarms


DETECTORS: dict[str, Alarms] = {
    "cusum": ours(lambda: Cusum(reference_rate=BEFORE)),
    "adwin": ours(Adwin),
    "ddm": ours(Ddm),
    "eddm": ours(Eddm),
    "page_hinkley": ours(PageHinkley),
    "kswin": ours(Kswin),
    "river ADWIN": rivers(drift.ADWIN),
    "river DDM": rivers(binary.DDM),
    "river EDDM": rivers(binary.EDDM),
    "river PageHinkley": rivers(drift.PageHinkley),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 streams instead of 400")
    num_streams = 60 if parser.parse_args().quick else 400
    rng = np.random.default_rng(0)
    rates = np.repeat([BEFORE, AFTER], [NUM_BEFORE, NUM_AFTER])
    streams = (rng.random((num_streams, len(rates))) < rates).astype(np.float64)
    # KSWIN tests at every label: a tenth of the streams says enough of it.
    found = {
        name: detection(alarms, streams[: num_streams // 10] if name == "kswin" else streams)
        for name, alarms in DETECTORS.items()
    }
    delays = {name: delay for name, (delay, _) in found.items()}
    false = {name: rate for name, (_, rate) in found.items()}
    share = delays["cusum"] / delays["river ADWIN"]
    costs = label_costs(rng, 200_000 if num_streams < 100 else 1_000_000)
    report(
        "concept",
        [
            Figure(
                name="cusum_median_delay_labels",
                unit="labels",
                ours=delays["cusum"],
                references={name: value for name, value in delays.items() if name != "cusum"},
            ),
            Figure(
                name="cusum_delay_over_river_adwin_ratio",
                unit="times",
                ours=share,
                references={"river ADWIN": 1.0},
                goal="<= 0.6",
                met=share <= 0.6,
            ),
            Figure(
                name="cusum_false_alarms_a_label",
                unit="alarms",
                ours=false["cusum"],
                references={name: value for name, value in false.items() if name != "cusum"},
                goal=f"<= {MAX_FALSE_ALARMS:g}",
                met=false["cusum"] <= MAX_FALSE_ALARMS,
            ),
            Figure(
                name="cusum_label_us",
                unit="us",
                ours=costs["cusum"],
                references={name: value for name, value in costs.items() if name != "cusum"},
                goal="<= 1",
                met=costs["cusum"] <= 1.0,
            ),
        ],
    )


def detection(alarms: Alarms, streams: Stream) -> tuple[float, float]:
    """Median labels from the change to the next alarm, and alarms a label before the change."""
    delays, false = [], 0
    for stream in streams:
        found = alarms(stream)
        false += sum(index < NUM_BEFORE for index in found)
        delays.append(next((i for i in found if i >= NUM_BEFORE), len(stream)) - NUM_BEFORE + 1)
    return statistics.median(delays), false / (len(streams) * NUM_BEFORE)


def label_costs(rng: np.random.Generator, num_labels: int) -> dict[str, float]:
    """Microseconds a label, in blocks as they arrive: the median of five rounds."""
    stream = (rng.random(num_labels) < BEFORE).astype(np.float64)
    blocks = [stream[start : start + BLOCK] for start in range(0, num_labels, BLOCK)]
    theirs = drift.ADWIN()

    def feed_theirs() -> None:
        for error in stream.tolist():
            theirs.update(error)

    def feed(detector: Detector[Any]) -> Callable[[], None]:
        def all_blocks() -> None:
            for block in blocks:
                detector.feed(block)

        return all_blocks

    calls = {
        "cusum": feed(Cusum(reference_rate=BEFORE)),
        "adwin": feed(Adwin()),
        "ddm": feed(Ddm()),
        "river ADWIN": feed_theirs,
    }
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(5)]
    return {
        name: statistics.median(each[name] for each in rounds) / num_labels * 1e6 for name in calls
    }


if __name__ == "__main__":
    main()
