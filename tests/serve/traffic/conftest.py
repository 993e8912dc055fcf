from __future__ import annotations

import pytest

from raymlops.serve.traffic import board


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that trusts its memory at once, and polls that end soon."""
    monkeypatch.setattr(board, "_SETTLE_S", 0.0)
    monkeypatch.setattr(board, "POLL_S", 0.2)
    monkeypatch.setattr(board, "LOADING_S", 0.15)
