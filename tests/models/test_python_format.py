"""Functions kept with the source of their module."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from raymlops.models import (
    format_named,
)
from tests.models.saved import everything


def test_a_rule_may_hold_dataclasses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python looks a dataclass with postponed annotations up by the name of its module.
    (tmp_path / "held_limits.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Limits:\n"
        "    low: float = 2.0\n"
        "def predict(matrix):\n"
        "    return matrix[:, 0] - Limits().low\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    kind, rule = format_named("python"), importlib.import_module("held_limits")
    rows = np.array([[3.0], [5.0]], np.float32)
    artifact = kind.save(rule.predict, rows)
    np.testing.assert_array_equal(kind.load(artifact, recorded=everything)(rows), [1.0, 3.0])
