"""The catalogue as a table for people; `docs/monitoring/metrics.md` holds it."""

from __future__ import annotations

from raymlops.telemetry.catalogue import CATALOGUE, FROM_RAY


def catalogue_table() -> str:
    """Markdown: every metric of ours, then those of Ray that our rules and dashboards use."""
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(each.labels)} | {each.help} |"
        for each in CATALOGUE.values()
    ]
    theirs = [f"| `{name}` | {help} |" for name, help in FROM_RAY.items()]
    return "\n".join(
        [
            "| metric | kind | labels | tells |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "From Ray, which exports them itself:",
            "",
            "| metric | tells |",
            "| --- | --- |",
            *theirs,
            "",
        ]
    )
