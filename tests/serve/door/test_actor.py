"""What a driver asks of doors, where they are played."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from raymlops.errors import ConfigError
from raymlops.serve import HttpLimits, warn_of_doors
from raymlops.serve.door import actor
from raymlops.serve.door.actor import DoorGoneError
from raymlops.serve.door.tls import TlsFiles


@dataclass
class Door:
    limits: HttpLimits
    addresses: tuple[str, ...] = ("127.0.0.1:8000",)
    is_gone: bool = False

    @property
    def standing(self) -> dict[str, Any]:
        return {"addresses": list(self.addresses)}


class OldDoor:
    """One of a version that did not say what its limits are."""

    standing: ClassVar = {"addresses": ["127.0.0.1:8000"]}


@pytest.fixture
def doors(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Those of the cluster, for a test to fill in."""

    def ask(door: Any, method: str) -> Any:
        if getattr(door, "is_gone", False):
            raise DoorGoneError("its node has gone")
        return getattr(door, method)

    there: list[Any] = []
    monkeypatch.setattr(actor, "ask", ask)
    monkeypatch.setattr(actor, "all_doors", lambda: iter(there))
    return there


def test_a_door_that_keeps_other_limits_is_told_of_with_both(
    doors: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    doors += [Door(HttpLimits(max_headers=1), is_gone=True), OldDoor(), Door(HttpLimits())]
    warn_of_doors("127.0.0.1", HttpLimits())
    assert caplog.messages == []
    doors.append(Door(HttpLimits(max_headers=32)))
    warn_of_doors("127.0.0.1", None)
    assert caplog.messages == []
    warn_of_doors("127.0.0.1", HttpLimits(max_body_bytes=1024))
    assert caplog.messages == [
        "replicas follow serve.http, the door keeps max_body_bytes 8388608, not 1024, "
        "max_headers 32, not 64 for what it answers itself, since its end may break connections: "
        "for all of it start the cluster anew"
    ]


def test_an_address_that_is_open_to_others_is_told_of(
    doors: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Who had served on all addresses, and took that back, was reached there as before."""
    doors += [
        Door(HttpLimits(), ("127.0.0.1:8000", "0.0.0.0:8001")),
        Door(HttpLimits(), ("::1:8000", "::2:80")),
    ]
    warn_of_doors("0.0.0.0", None)
    assert caplog.messages == []
    warn_of_doors("127.0.0.1", None)
    assert caplog.messages == [
        "serve.host is 127.0.0.1, but models are reached at 0.0.0.0:8001, ::2:80 too, where an "
        "earlier deployment asked for it: to close that start the cluster anew"
    ]


def test_a_door_is_not_opened_with_files_that_do_not_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was Ray's traceback. One that is open goes on with what it has."""
    tls = TlsFiles(certificate=tmp_path / "none.pem", key=tmp_path / "key.pem")
    monkeypatch.setattr(actor, "_node_id", lambda: "node")
    monkeypatch.setattr(actor, "door_path", lambda: tmp_path)
    monkeypatch.setattr(actor, "spawn", lambda *_, **__: "the door")
    monkeypatch.setattr(actor, "ask", lambda *_: tls)
    monkeypatch.setattr(actor, "_is_open", lambda _: False)
    with pytest.raises(ConfigError, match=r"none\.pem and key .*: .*No such file"):
        actor.local_door(HttpLimits(), tls)
    monkeypatch.setattr(actor, "_is_open", lambda _: True)
    assert actor.local_door(HttpLimits(), tls) == "the door"
