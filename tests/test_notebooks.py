"""The notebook runs from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jupyter's own client libraries
def test_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMLOPS__TRAIN__EPOCHS", "1")
    monkeypatch.setenv("RAYMLOPS__PLAN__DATA", "1")
    notebook = nbformat.read(NOTEBOOKS / "quickstart.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = {cell["id"]: cell.get("outputs", []) for cell in notebook.cells}
    shown = "".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for cell in outputs.values()
        for output in cell
    )
    assert "'flights 1.0.0'" in shown
    assert "(0, 198, 8385)" in shown  # failed, requests, rows
    assert "'canary':" in shown
    assert "train data  flights version 1, 26,268 rows" in shown
