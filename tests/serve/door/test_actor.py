"""What a driver asks of doors, where they are played."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from raymlops.serve import HttpLimits, warn_of_limits
from raymlops.serve.door import actor
from raymlops.serve.door.actor import DoorGoneError


@dataclass
class Door:
    limits: HttpLimits | None


class OldDoor:
    """One of a version that did not say what its limits are."""


def test_a_door_that_keeps_other_limits_is_told_of_with_both(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(door: Any, method: str) -> HttpLimits:
        found: HttpLimits | None = getattr(door, method)
        if found is None:
            raise DoorGoneError("its node has gone")
        return found

    doors = [Door(HttpLimits(max_headers=32)), Door(None), OldDoor(), Door(HttpLimits())]
    monkeypatch.setattr(actor, "ask", ask)
    monkeypatch.setattr(actor, "all_doors", lambda: iter(doors[1:]))
    warn_of_limits(HttpLimits())
    assert caplog.messages == []
    monkeypatch.setattr(actor, "all_doors", lambda: iter(doors))
    warn_of_limits(HttpLimits(max_body_bytes=1024))
    assert caplog.messages == [
        "replicas follow serve.http, the door keeps max_body_bytes 8388608, not 1024, "
        "max_headers 32, not 64 for what it answers itself, since its end may break connections: "
        "for all of it start the cluster anew"
    ]
