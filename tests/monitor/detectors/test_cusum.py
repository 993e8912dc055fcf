from __future__ import annotations

import numpy as np
import pytest

from raymlops.monitor.detectors import Adwin, Cusum
from tests.monitor.detectors.test_contract import errors

RATE = 0.1


def test_evidence_is_the_mixture_over_starts_and_rates() -> None:
    # Written out: every start, every rate the errors may have risen to.
    stream = errors((150, 0.1), (60, 0.4), seed=5)
    odds = RATE / (1 - RATE) * np.exp([0.4, 0.6, 0.8, 1.0])
    risen = odds / (1 + odds)
    evidence = []
    for end in range(1, len(stream) + 1):
        sums = [
            sum(
                np.prod(np.where(part > 0, rate / RATE, (1 - rate) / (1 - RATE)))
                for part in (stream[start:end] for start in range(end))
            )
            for rate in risen
        ]
        evidence.append(np.mean(sums))
    wanted = int(np.argmax(np.array(evidence) >= 500))
    assert wanted > 0
    found = Cusum(reference_rate=RATE, labels_per_false_alarm=500).feed(stream)
    assert found[0] == wanted


def test_false_alarms_are_no_more_often_than_was_asked_for() -> None:
    detector = Cusum(reference_rate=RATE, labels_per_false_alarm=2_000)
    num_labels = 200_000
    alarms = detector.feed(errors((num_labels, RATE), seed=1))
    assert 0 < len(alarms) <= num_labels / 2_000


def test_errors_that_are_probabilities_keep_the_bound() -> None:
    # Of a calibrated model the expected error is min(p, 1 - p); its mean is the reference rate.
    expected = np.random.default_rng(2).beta(1, 9, size=200_000)
    detector = Cusum(reference_rate=float(expected.mean()), labels_per_false_alarm=2_000)
    assert len(detector.feed(expected)) <= 100


def test_it_finds_a_doubled_error_rate_sooner_than_adwin() -> None:
    change, delays = 1_000, []
    for seed in range(40):
        stream = errors((change, RATE), (3_000, 2 * RATE), seed=seed)
        found = [
            next(alarm for alarm in detector.feed(stream) if alarm >= change) - change
            for detector in (Cusum(reference_rate=RATE), Adwin())
        ]
        delays.append(found)
    ours, adwins = np.median(delays, axis=0)
    assert ours <= 0.6 * adwins


def test_a_falling_error_rate_is_no_alarm() -> None:
    stream = errors((1_000, RATE), (50_000, RATE / 2), seed=3)
    assert Cusum(reference_rate=RATE, labels_per_false_alarm=1e6).feed(stream) == ()


def test_a_million_labels_cost_no_precision() -> None:
    detector = Cusum(reference_rate=RATE)
    quiet = np.zeros(1_000_000)
    for start in range(0, len(quiet), 10_000):
        assert detector.feed(quiet[start : start + 10_000]) == ()
    (found, *_) = detector.feed(np.ones(50))
    assert found == pytest.approx(Cusum(reference_rate=RATE).feed(np.ones(50))[0], abs=3)
