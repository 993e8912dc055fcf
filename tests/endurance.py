"""What `make endurance` runs and `make test` does not: a test with more rounds or more cases."""

from __future__ import annotations

from typing import Any

import pytest

_TIMEOUT_S = 1800.0
"""Hundreds of rounds take minutes, on a machine with other work more than the five of any test."""


def endurance(*values: Any) -> Any:
    """One set of values of `parametrize`, among others that are run every time."""
    marks = (pytest.mark.endurance, pytest.mark.timeout(_TIMEOUT_S))
    return pytest.param(*values, marks=marks)
