from __future__ import annotations

from pathlib import Path

from raymlops.telemetry.table import catalogue_table

PAGE = Path(__file__).parents[2] / "docs" / "monitoring" / "metrics.md"


def test_the_page_has_the_catalogue_as_it_is() -> None:
    """Where it has not, put what `catalogue_table()` returns between its two marks."""
    _, _, rest = PAGE.read_text().partition("<!-- catalogue -->\n")
    table, _, _ = rest.partition("<!-- end -->\n")
    assert table == catalogue_table()
