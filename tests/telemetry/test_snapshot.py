from __future__ import annotations

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from raymlops.telemetry import Gathered, Series, Snapshot, Told
from raymlops.telemetry.snapshot import merge

REQUESTS = ("raymlops_requests_total", ("m", "1.0.0", "champion", "ok"))
IN_FLIGHT = ("raymlops_requests_in_flight", ("m",))
LOAD = ("raymlops_model_load_seconds", ("m", "1.0.0"))
ROWS = ("raymlops_batch_rows", ("m", "1.0.0"))


def snapshot(source: str, sequence: int, count: int) -> Snapshot:
    return Snapshot(
        source=source,
        sequence=sequence,
        series=(
            Series(*REQUESTS, count),
            Series(*IN_FLIGHT, 2),
            Series(*LOAD, float(count)),
            Series(*ROWS, 3 * count, (count, 0, count)),
        ),
    )


def values(gathered: Gathered, now_s: float) -> dict[str, float]:
    return {each.metric: each.value for each in gathered.series(now_s=now_s)}


def test_replicas_add_up_as_the_catalogue_says() -> None:
    gathered = Gathered()
    gathered.put(snapshot("a", 0, 5), now_s=0.0)
    gathered.put(snapshot("b", 0, 7), now_s=0.0)
    assert gathered.num_sources(now_s=1.0) == 2
    assert set(gathered.series(now_s=1.0)) == {
        Series(*REQUESTS, 12),
        Series(*IN_FLIGHT, 4),
        Series(*LOAD, 7.0),
        Series(*ROWS, 36, (12, 0, 12)),
    }


def test_counts_of_a_replica_that_is_gone_stay_and_its_gauges_go() -> None:
    gathered = Gathered(quiet_after_s=10)
    gathered.put(snapshot("a", 0, 5), now_s=0.0)
    gathered.put(snapshot("b", 0, 7), now_s=9.0)
    found = values(gathered, 12.0)
    assert found[REQUESTS[0]] == 12
    assert found[IN_FLIGHT[0]] == 2
    assert gathered.num_sources(now_s=12.0) == 1


def test_one_that_was_only_slow_is_counted_once() -> None:
    gathered = Gathered(quiet_after_s=10)
    gathered.put(snapshot("a", 0, 5), now_s=0.0)
    assert values(gathered, 50.0)[REQUESTS[0]] == 5
    gathered.put(snapshot("a", 1, 6), now_s=51.0)
    assert values(gathered, 51.0)[REQUESTS[0]] == 6


def test_a_thousand_lives_cost_no_more_than_their_sum() -> None:
    gathered = Gathered(quiet_after_s=1, max_quiet=4)
    for life in range(1000):
        gathered.put(snapshot(f"life-{life}", 0, 1), now_s=2.0 * life)
    assert values(gathered, 2000.0)[REQUESTS[0]] == 1000
    assert len(gathered._newest) <= 5


def test_one_that_was_taken_for_gone_is_not_counted_twice() -> None:
    """Once 100 requests became 200, for ever, where many replicas fell silent at a time."""
    gathered = Gathered(quiet_after_s=10, max_quiet=0)
    gathered.put(snapshot("a", 4, 100), now_s=0.0)
    gathered.put(snapshot("b", 0, 1), now_s=20.0)
    assert "a" not in gathered._newest
    for late in (3, 4):
        gathered.put(snapshot("a", late, 100), now_s=21.0)
    assert gathered.num_sources(now_s=21.0) == 1
    gathered.put(snapshot("a", 5, 110), now_s=22.0)  # the ten of its silence are left out
    assert values(gathered, 22.0)[REQUESTS[0]] == 101
    gathered.put(snapshot("a", 6, 115), now_s=23.0)
    gathered.put(snapshot("b", 1, 1), now_s=50.0)
    assert "a" not in gathered._newest
    gathered.put(snapshot("a", 7, 125), now_s=51.0)
    found = {each.metric: each for each in gathered.series(now_s=51.0)}
    assert found[REQUESTS[0]].value == 106
    assert found[ROWS[0]].buckets == (106, 0, 106)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=60), st.randoms())
def test_lost_doubled_and_late_snapshots_change_nothing(
    sent: list[tuple[str, int]], shuffle: random.Random
) -> None:
    """Of each source the newest that arrived counts, in whatever order they came."""
    arrived = sent * 2
    shuffle.shuffle(arrived)
    gathered = Gathered()
    for source, sequence in arrived:
        gathered.put(snapshot(source, sequence, 10 * sequence), now_s=0.0)
    newest = {name: max(n for source, n in sent if source == name) for name, _ in sent}
    found = values(gathered, 0.0).get(REQUESTS[0], 0)
    assert found == sum(10 * sequence for sequence in newest.values())


def test_what_was_gathered_goes_on_in_another_life() -> None:
    gathered = Gathered(quiet_after_s=10, max_quiet=0)
    gathered.put(snapshot("gone", 3, 100), now_s=0.0)
    gathered.put(snapshot("a", 5, 7), now_s=20.0)
    gathered.put(snapshot("b", 5, 1), now_s=20.0)
    told = msgspec.json.decode(msgspec.json.encode(gathered.told()), type=Told)
    again = Gathered(quiet_after_s=10, max_quiet=0)
    again.recall(told)
    assert again.num_sources(now_s=0.0) == 0
    assert values(again, 0.0)[REQUESTS[0]] == 108
    for late in (snapshot("gone", 3, 100), snapshot("a", 5, 7), snapshot("a", 6, 9)):
        again.put(late, now_s=1.0)
        assert values(again, 1.0)[REQUESTS[0]] in (108, 110)
    assert again.num_sources(now_s=1.0) == 1
    assert values(again, 1.0)[REQUESTS[0]] == 110


def test_what_the_catalogue_has_no_more_is_not_recalled() -> None:
    old = (
        Series("raymlops_of_old_total", ("m",), 3),
        Series(REQUESTS[0], ("m",), 3),
        Series(ROWS[0], ("m", "1.0.0"), 3, (1, 2)),
    )
    gathered = Gathered()
    newest = (Snapshot(source="a", sequence=0, series=old),)
    gathered.recall(Told(newest=newest, gone=old, left={}))
    assert gathered.series(now_s=0.0) == ()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 100), max_size=8))
def test_merging_parts_is_merging_all(counts: list[int]) -> None:
    series = [each for count in counts for each in snapshot("x", 0, count).series]
    half = len(series) // 2
    assert merge(series) == merge((*merge(series[:half]), *merge(series[half:])))


def test_what_a_replica_tells_no_more_does_not_fall() -> None:
    """Batches of a version that one of two replicas had let go of fell to those of the other, and
    Prometheus took all of these for new ones."""
    gathered = Gathered()
    for source, count in (("a", 5), ("b", 7)):
        gathered.put(snapshot(source, 0, count), now_s=0.0)
    without = [each for each in snapshot("a", 1, 5).series if each.metric not in (ROWS[0], LOAD[0])]
    gathered.put(Snapshot(source="a", sequence=1, series=tuple(without)), now_s=1.0)
    assert Series(*ROWS, 36, (12, 0, 12)) in gathered.series(now_s=1.0)
    gathered.put(snapshot("a", 2, 1), now_s=2.0)  # loaded again, it counts from 0
    found = gathered.series(now_s=2.0)
    assert Series(*ROWS, 39, (13, 0, 13)) in found
    assert Series(*LOAD, 7.0) in found


def test_series_of_long_ago_are_dropped_but_none_that_is_still_counted() -> None:
    gathered = Gathered(max_gone=3)
    for number in range(10):
        series = [Series(REQUESTS[0], ("m", f"1.0.{number}", "champion", "ok"), 1)]
        series.append(Series(REQUESTS[0], ("m", "none", "none", "refused"), number + 1))
        gathered.put(Snapshot(source="a", sequence=number, series=tuple(series)), now_s=0.0)
    versions = [each.labels[1] for each in gathered.series(now_s=0.0)]
    assert sorted(versions) == ["1.0.6", "1.0.7", "1.0.8", "1.0.9", "none"]
    gathered.put(snapshot("b", 0, 7), now_s=0.0)
    gathered.put(Snapshot(source="b", sequence=1, series=()), now_s=0.0)
    gathered.put(snapshot("c", 0, 1), now_s=0.0)
    for number in range(10, 20):
        series = [Series(REQUESTS[0], ("m", f"1.0.{number}", "champion", "ok"), 1)]
        gathered.put(Snapshot(source="a", sequence=number, series=tuple(series)), now_s=0.0)
    assert Series(*REQUESTS, 8) in gathered.series(now_s=0.0)
