"""Two tables held against each other, as one HTML file that needs nothing but a browser."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from raymlops.data.table_drift import TableDrift, shown_p_value

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
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["p_value"] = shown_p_value
    steady = [each for each in found.features if not each.verdict.drifted]
    page = environment.get_template("drift_report.html.j2").render(
        before=before,
        after=after,
        found=found,
        features=[*found.drifted, *sorted(steady, key=lambda each: -each.verdict.effect)],
        tests=_TESTS,
        written_at=datetime.now(UTC),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path
