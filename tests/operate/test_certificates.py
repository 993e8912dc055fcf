from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from raymlops.errors import ClusterError
from raymlops.operate.certificates import Certificates, doors

DAY_S = 86_400.0
NOW_S = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC


def door(
    left_days: float | None, *, lasts_days: float = 90.0, problem: str | None = None
) -> dict[str, Any]:
    """What a door says whose certificate is good for so long."""
    until = None if left_days is None else NOW_S + left_days * DAY_S
    since = None if until is None else until - lasts_days * DAY_S
    shown = {"file": "/tls/server.pem", "since": since, "until": until}
    return {"problem": problem, "certificate": shown}


def told(*found: dict[str, Any]) -> tuple[bool, str, str]:
    (signal,) = Certificates(lambda: found, clock=lambda: NOW_S).look()
    assert (signal.name, signal.model) == ("certificate", "doors")
    return signal.firing, signal.severity, signal.summary


@pytest.mark.parametrize(
    ("left_days", "lasts_days", "wanted"),
    [
        (15, 90, None),
        (13, 90, "warning"),
        (2.1, 90, "warning"),
        (1.9, 90, "critical"),
        (2.0, 6, None),  # of one that lasts for six days
        (1.7, 6, "warning"),
        (0.5, 6, "critical"),
    ],
)
def test_a_certificate_that_runs_out_soon_is_told(
    left_days: float, lasts_days: float, wanted: str | None
) -> None:
    firing, severity, summary = told(door(left_days, lasts_days=lasts_days))
    assert firing == (wanted is not None)
    if wanted is not None:
        assert severity == wanted
        assert summary.startswith("the certificate /tls/server.pem runs out at 2023-11-")


def test_one_that_ran_out_or_is_not_good_yet_is_critical() -> None:
    ran_out = "the certificate /tls/server.pem ran out at 2023-11-13 22:13 UTC"
    assert told(door(-1)) == (True, "critical", ran_out)
    not_yet = "the certificate /tls/server.pem is not good before 2023-11-15 22:13 UTC"
    assert told(door(91)) == (True, "critical", not_yet)


def test_files_that_cannot_be_used_are_told() -> None:
    """They were in the log of an actor, until the one of before ran out."""
    kept = "the certificate of before is used, the new one cannot be: ..."
    assert told(door(60, problem=kept)) == (True, "warning", kept)
    firing, severity, summary = told(door(1, problem=kept))
    assert (firing, severity) == (True, "critical")
    assert summary.endswith(f"runs out at 2023-11-15 22:13 UTC; {kept}")
    closed = "nobody is let in until the files fit: ..."
    assert told(door(None, problem=closed)) == (True, "critical", closed)


def test_of_several_doors_the_worst_is_told() -> None:
    assert told(door(60), door(-1), door(13))[1:] == told(door(-1))[1:]
    (signal,) = Certificates(lambda: (door(60), door(-1), door(13)), clock=lambda: NOW_S).look()
    assert signal.evidence == {"doors": 3, "in_trouble": 2}


@pytest.mark.parametrize("plain", [{"problem": None, "certificate": None}, {"problem": None}])
def test_a_door_without_a_certificate_has_no_trouble(plain: dict[str, Any]) -> None:
    """Also one of an earlier version, which says nothing of it."""
    assert told(plain)[0] is False


def test_without_doors_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def away() -> Sequence[dict[str, Any]]:
        raise ClusterError("the door is gone")

    assert Certificates(doors).look() == ()
    with caplog.at_level(logging.WARNING):
        assert Certificates(away).look() == ()
    assert "no door says which certificate it shows: the door is gone" in caplog.text
