from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raymlops.data import Feature, Profile
from raymlops.data.slices import cells_of, parts_of
from raymlops.ledger import Outcomes
from raymlops.monitor.intervals import Estimate
from raymlops.monitor.slices import measure_slices
from tests.monitor.months import outcome


def _profile(*jobs: str) -> Profile:
    columns = {"job": np.array(jobs, dtype=object)}
    scores = np.zeros(len(jobs), dtype=np.float32)
    features = (Feature(name="job", kind="category"),)
    return Profile.of(features, columns, scores, label_rate=0.5, log_loss=0.6)


def _outcome(profile: Profile, slice_by: tuple[str, ...], *parts: tuple[int, str]) -> Outcomes:
    """One request with (number of rows, job) of each part."""
    jobs = np.repeat([job for _, job in parts], [num for num, _ in parts]).astype(object)
    slices = cells_of(profile, slice_by, {"job": jobs})
    return outcome(np.zeros(len(jobs)), np.zeros(len(jobs), dtype=np.int8), slices=slices)


def _count(outcomes: Sequence[Outcomes]) -> list[Estimate]:
    num_rows = sum(len(outcome.labels) for outcome in outcomes)
    return [Estimate(metric="accuracy", num_rows=num_rows, value=1.0, low=1.0, high=1.0)]


def test_categories_that_are_called_as_parts_are_parts_of_their_own() -> None:
    """`unknown` was left out, and `other` took in whatever had never been seen."""
    profile = _profile("admin", "unknown", "other")
    parts = ((150, "admin"), (120, "unknown"), (110, "other"), (130, "new"))
    outcome = _outcome(profile, ("job",), *parts)
    found = measure_slices([outcome], ("job",), profile, _count)
    assert [(each.part, each.estimate.num_rows) for each in found] == [
        ("admin", 150),
        ("(other)", 130),
        ("unknown", 120),
        ("other", 110),
    ]


def test_no_part_has_the_name_of_another() -> None:
    assert parts_of(_profile("other", "(other)", "missing"), "job") == [
        "(other)",
        "missing",
        "other",
        "((other))",
        "(missing)",
    ]


def _parts_of_numbers(values: Sequence[float]) -> list[str]:
    columns = {"x": np.array(values, dtype=np.float64)}
    scores = np.zeros(len(values), dtype=np.float32)
    features = (Feature(name="x", kind="number"),)
    profile = Profile.of(features, columns, scores, label_rate=0.5, log_loss=0.6)
    return list(dict.fromkeys(parts_of(profile, "x")))


def test_parts_of_large_numbers_that_differ_by_little_are_told_apart() -> None:
    """In six digits two of four days were called alike, and were measured as one."""
    assert _parts_of_numbers(range(20130101, 20130105)) == [
        "below 20130102",
        "20130102 to 20130103",
        "20130103 to 20130104",
        "from 20130104",
        "missing",
    ]


def test_a_flag_has_two_parts_and_a_constant_one() -> None:
    assert _parts_of_numbers([0, 1, 1, 0]) == ["below 1", "from 1", "missing"]
    assert _parts_of_numbers([5] * 9) == ["all", "missing"]


def test_rows_whose_profile_does_not_know_the_feature_are_no_part() -> None:
    profile = _profile("admin")
    outcome = _outcome(profile, ("team", "job"), (200, "admin"))
    found = measure_slices([outcome], ("team", "job"), profile, _count)
    assert [(each.feature, each.part) for each in found] == [("job", "admin")]
