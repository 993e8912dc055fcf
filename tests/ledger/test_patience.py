from __future__ import annotations

import pytest

from raymlops.errors import (
    ClusterError,
    ConflictError,
    LedgerError,
    RaymlopsError,
    StorageError,
    UnavailableError,
)
from raymlops.ledger import patience
from raymlops.ledger.patience import patiently


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_RETRY_S", 0.0)


def test_what_is_away_is_asked_again_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[RaymlopsError] = [
        LedgerError("gone"),
        UnavailableError("503"),
        ClusterError("away"),
    ]

    def act() -> str:
        if errors:
            raise errors.pop(0)
        return "written"

    assert patiently(act, waits="run m-1 has trained") == "written"
    assert caplog.messages == ["run m-1 has trained, and waits up to 5 minutes: gone"]


@pytest.mark.parametrize("error", [ConflictError("1.0.0 exists"), StorageError("no such bucket")])
def test_what_would_be_said_again_is_not_waited_for(error: RaymlopsError) -> None:
    errors = [error]

    def act() -> None:
        raise errors.pop()

    with pytest.raises(type(error), match=str(error)):
        patiently(act, waits="run m-1 has trained")


def test_it_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.05)

    def act() -> None:
        raise LedgerError("gone")

    with pytest.raises(LedgerError, match="gone"):
        patiently(act, waits="run m-1 has trained")
