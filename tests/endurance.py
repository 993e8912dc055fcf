"""What `make endurance` runs and `make test` does not: a test with more rounds or more cases."""

from __future__ import annotations

from typing import Any

import pytest


def endurance(*values: Any) -> Any:
    """One set of values of `parametrize`, among others that are run every time."""
    return pytest.param(*values, marks=pytest.mark.endurance)
