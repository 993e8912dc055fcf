"""The state machine of episodes, by example and by every sequence of signals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from raymlops.monitor.alerts import Alert, AlertSettings, Episode, Severity, Signal, advance
from raymlops.monitor.alerts.episodes import SEVERITIES

START = datetime(2013, 7, 1, tzinfo=UTC)


def fires(severity: Severity = "warning", model: str = "flights") -> Signal:
    return Signal(name="drift", model=model, firing=True, severity=severity, summary=severity)


OVER = Signal(name="drift", model="flights", firing=False)


def told(steps: list[list[Signal]], quiet: list[bool] | None = None) -> list[tuple[str, str]]:
    """(status, severity) of all alerts, one step a minute."""
    episodes: tuple[Episode, ...] = ()
    found: list[Alert] = []
    for minute, signals in enumerate(steps):
        hushed = quiet[minute] if quiet else False
        episodes, alerts = advance(
            episodes,
            signals,
            START + timedelta(minutes=minute),
            quiet=lambda _, hushed=hushed: hushed,
        )
        found += alerts
    return [(alert.status, alert.severity) for alert in found]


def test_one_alert_an_episode_and_one_at_its_end() -> None:
    steps = [[fires()], [fires()], [], [fires()], [OVER], [OVER], [fires()]]
    assert told(steps) == [("firing", "warning"), ("resolved", "warning"), ("firing", "warning")]


def test_one_that_becomes_worse_is_told_again_and_does_not_become_milder() -> None:
    steps = [[fires("info")], [fires("critical")], [fires("warning")], [OVER]]
    assert told(steps) == [("firing", "info"), ("firing", "critical"), ("resolved", "critical")]


def test_what_was_quiet_all_its_life_is_never_told() -> None:
    assert told([[fires()], [], [OVER]], [True, True, True]) == []


def test_what_outlives_its_silence_is_told_then() -> None:
    steps: list[list[Signal]] = [[fires()], [], [], [OVER]]
    assert told(steps, [True, True, False, True]) == [
        ("firing", "warning"),
        ("resolved", "warning"),
    ]


def test_the_end_of_what_was_told_is_told_during_a_silence() -> None:
    steps = [[fires()], [fires("critical")], [OVER]]
    assert told(steps, [False, True, True]) == [("firing", "warning"), ("resolved", "critical")]


def test_what_nobody_renews_is_over_at_last() -> None:
    day = timedelta(days=1)
    episodes, _ = advance((), [fires()], START)
    episodes, alerts = advance(episodes, [], START + 13 * day, resolve_after=14 * day)
    assert alerts == ()
    episodes, alerts = advance(episodes, [], START + 14 * day, resolve_after=14 * day)
    assert [alert.status for alert in alerts] == ["resolved"]
    assert episodes == ()


def test_what_every_month_says_again_is_not_over_between_them() -> None:
    """After 14 days a model as bad as before was said to be well, until the next month's end."""
    resolve_after = timedelta(days=AlertSettings().resolve_after_days)
    episodes, _ = advance((), [fires()], START)
    for day in range(1, 100):
        again = [fires()] if day % 31 == 0 else []
        now = START + timedelta(days=day)
        episodes, alerts = advance(episodes, again, now, resolve_after=resolve_after)
        assert alerts == ()


def test_episodes_of_one_trouble_share_a_fingerprint_and_have_ids_of_their_own() -> None:
    episodes, (first,) = advance((), [fires()], START)
    episodes, (end,) = advance(episodes, [OVER], START + timedelta(hours=1))
    _, (second,) = advance(episodes, [fires()], START + timedelta(hours=2))
    assert first.fingerprint == end.fingerprint == second.fingerprint
    assert first.id == end.id != second.id
    _, (other,) = advance((), [fires(model="trains")], START)
    assert other.fingerprint != first.fingerprint


SIGNALS = st.lists(
    st.builds(
        Signal,
        name=st.sampled_from(["drift", "gate"]),
        model=st.sampled_from(["a", "b"]),
        firing=st.booleans(),
        severity=st.sampled_from(SEVERITIES),
    ),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(SIGNALS, st.booleans()), max_size=12))
def test_whatever_happens_alerts_make_sense(steps: list[tuple[list[Signal], bool]]) -> None:
    episodes: tuple[Episode, ...] = ()
    open_alerts: dict[str, Severity] = {}
    for minute, (signals, hushed) in enumerate(steps):
        now = START + timedelta(minutes=minute)
        episodes, alerts = advance(episodes, signals, now, quiet=lambda _, hushed=hushed: hushed)
        for alert in alerts:
            if alert.status == "resolved":
                open_alerts.pop(alert.id)  # only what was told is told to be over, and once
                continue
            assert not hushed
            known = open_alerts.get(alert.id)
            assert known is None or SEVERITIES.index(alert.severity) > SEVERITIES.index(known)
            open_alerts[alert.id] = alert.severity
        # What is told is open, and what is open is told unless somebody wants quiet.
        still = {episode.id: episode for episode in episodes}
        assert open_alerts.keys() <= still.keys()
        assert len({episode.fingerprint for episode in episodes}) == len(episodes)
        if not hushed:
            assert open_alerts == {each.id: each.severity for each in episodes}
