"""What the benchmark and the servers it starts agree on."""

from __future__ import annotations

from pathlib import Path

MODEL = "wines"
KEY = "rml_benchmark"


def ledger_url(folder: Path) -> str:
    return f"sqlite:///{folder}/ledger.db"


def store_uri(folder: Path) -> str:
    return str(folder / "store")
