from __future__ import annotations

import pytest

from raymlops.serve import ServeSettings
from raymlops.serve.deployment.autoscaling import Autoscaling, WorkMeter, wanted


def test_replicas_are_wanted_for_all_that_is_in_work() -> None:
    assert wanted([40.0], 16.0, 1) == 3
    assert wanted([16.0, 16.0], 16.0, 2) == 2
    assert wanted([5.0, 6.0, 4.0], 16.0, 3) == 1
    assert wanted([40.0], 16.0, 2) == 5  # one has not told yet: it is taken to be as busy
    assert wanted([], 16.0, 2) == 2
    assert wanted([0.0], 16.0, 1) == 0  # Serve keeps to the bounds


def test_the_mean_in_work_is_the_time_requests_took_by_the_time_that_passed() -> None:
    now = 100.0
    meter = WorkMeter(lambda: now)
    now = 110.0
    assert meter.read(30.0, 0) == {"requests_in_work": 3.0}
    now = 115.0
    assert meter.read(31.0, 0) == {"requests_in_work": pytest.approx(0.2)}
    assert meter.read(31.0, 0) == {"requests_in_work": 0.0}  # asked twice at one time
    now = 120.0
    assert meter.read(31.0, 7) == {"requests_in_work": 7.0}  # they hang


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_replicas": 0}, "min_replicas is 1 and max_replicas 0"),
        ({"max_replicas": 2, "target_in_work": 0}, "target_in_work is 0, more than 0"),
        ({"max_replicas": 2, "over_s": 10}, "over_s is 10; Serve asks every 10 s"),
        ({"max_replicas": 2, "down_after_s": -1}, "down_after_s is -1, it must be 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Autoscaling(**values)  # type: ignore[arg-type]


def test_a_number_of_replicas_beside_autoscaling_is_refused() -> None:
    with pytest.raises(ValueError, match="num_replicas is 3, and autoscaling decides that"):
        ServeSettings(num_replicas=3, autoscaling=Autoscaling(max_replicas=4))
