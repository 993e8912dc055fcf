from __future__ import annotations

import pytest

from raymlops.serve.tap import outbox


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What did not arrive is sent again at once."""
    monkeypatch.setattr(outbox, "_RETRY_S", 0.0)
