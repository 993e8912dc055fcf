"""Two tables held against each other, as one HTML file that needs nothing but a browser."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from raymlops.data.table_drift import TableDrift, shown_p_value
from raymlops.monitor.pages import template, write_page

_TEMPLATE = Path(__file__).with_name("drift_report.html.j2")

_TESTS = {
    "ks": "largest gap between the distribution functions",
    "missing": "difference of the shares of missing values",
    "chi2": "total variation distance",
    "psi": "population stability index",
    "js": "Jensen-Shannon distance",
    "wasserstein": "Wasserstein distance in standard deviations",
}


def write_drift_report(found: TableDrift, before: str, after: str, path: Path) -> Path:
    """Writes `found` to `path`; `before` and `after` are what the tables are called."""
    steady = [each for each in found.features if not each.verdict.drifted]
    page = template(_TEMPLATE, p_value=shown_p_value).render(
        before=before,
        after=after,
        found=found,
        features=[*found.drifted, *sorted(steady, key=lambda each: -each.verdict.effect)],
        tests=_TESTS,
        written_at=datetime.now(UTC),
    )
    return write_page(page, path)
