"""The notebook runs from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.endurance import endurance

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SHOWN = {
    "cell-05": "('flights', 1, 26268, ",
    "cell-10": "'flights 1.0.0'",
    "cell-14": "(0, 198, 8385)",  # failed, requests, rows
    "cell-19": "'canary':",
    "cell-21": "train data  flights version 1, 26,268 rows",
    "cell-23b": "HTML object",
}


# The last cell ends what the others started; what is trained and served is on the front page, too.
@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("until", ["cell-05", endurance("cell-24")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jupyter's own client libraries
def test_the_quickstart_runs(until: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMLOPS__TRAIN__EPOCHS", "1")
    monkeypatch.setenv("RAYMLOPS__PLAN__DATA", "1")
    notebook = nbformat.read(NOTEBOOKS / "quickstart.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id <= until or cell.id == "cell-24"]
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        shown = "".join(
            output.get("text", "") or output.get("data", {}).get("text/plain", "")
            for output in outputs
        )
        assert SHOWN.get(cell.id, "") in shown
