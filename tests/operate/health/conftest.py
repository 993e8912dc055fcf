from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raymlops.ledger import Ledger
from raymlops.operate import Workspace
from tests.monitor.metrics.conftest import fill


@pytest.fixture
def home(ledger: Ledger, tmp_path: Path) -> Path:
    """A bit of everything has happened in its ledger, which lies where homes have theirs."""
    fill(ledger)
    return tmp_path


@pytest.fixture
def workspace(home: Path) -> Iterator[Workspace]:
    with Workspace.open(overrides=[f"home={home}"]) as opened:
        yield opened
