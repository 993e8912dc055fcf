from __future__ import annotations

from datetime import UTC, datetime

from raymlops.ledger import Drift
from raymlops.monitor import WindowReport, windows
from raymlops.monitor.report.figures import drift_figure


def _reports(start: datetime, end: datetime) -> list[WindowReport]:
    """One of each month, the first with an effect of 0.01, the second of 0.02 and so on."""
    return [
        WindowReport(
            model="m",
            window=month,
            performance=(),
            drift=(
                Drift(
                    model="m", version="1.0.0", window_start=month.start, window_end=month.end,
                    feature="temp", test="ks", num_rows=1000, effect=number / 100, p_value=0.0,
                    drifted=True,
                ),
            ),
        )
        for number, month in enumerate(windows("month", start, end), start=1)
    ]  # fmt: skip


def test_months_of_two_years_have_a_column_each() -> None:
    """The second January was drawn in the place of the first."""
    figure = drift_figure(
        _reports(datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))
    )
    assert figure is not None
    for number in range(1, 15):
        assert f">{number / 100:.2f}</text>" in figure.svg
    assert figure.svg.count(">1 Jan</text>") == figure.svg.count(">2024</text>") == 2


def test_the_year_is_told_only_where_there_are_two() -> None:
    figure = drift_figure(
        _reports(datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC))
    )
    assert figure is not None
    assert ">1 Dec</text>" in figure.svg
    assert ">2023</text>" not in figure.svg
