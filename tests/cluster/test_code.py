from __future__ import annotations

from pathlib import Path

import pytest

import raymlops
from raymlops.cluster import code_digest


def test_code_is_told_by_every_file_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cli").mkdir()
    for name in ("__init__.py", "cli/app.py"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(raymlops, "__file__", str(tmp_path / "__init__.py"))
    found = [code_digest.__wrapped__()]
    (tmp_path / "cli" / "app.py").write_text("1")
    found.append(code_digest.__wrapped__())
    assert len(set(found)) == 2
