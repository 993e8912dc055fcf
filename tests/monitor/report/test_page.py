from __future__ import annotations

import errno
import os
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from raymlops.errors import ConfigError
from raymlops.ledger import Ledger
from raymlops.monitor import Period, write_report
from raymlops.monitor.alerts import Alert
from raymlops.monitor.report.figures import loss_figure
from tests.runs import start_training


@pytest.fixture(scope="module")
def page(service, judged, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "pages" / "flights.html"
    written = write_report(service.ledger, "flights", path, title="Late flights")
    assert written == path
    return path.read_text(encoding="utf-8")


def test_the_report_tells_the_whole_story(page: str) -> None:
    assert "<h1>Late flights</h1>" in page
    assert page.count("<svg") == 5
    for told in ("champion -&gt; 1.0.1", "8 of 11 inputs have drifted", "release 1.0.1", "p99"):
        assert told in page


def test_the_slices_a_model_does_worst_in_are_listed_with_intervals(page: str, service) -> None:
    last = datetime(2013, 9, 1, tzinfo=UTC)
    losses = [
        row
        for row in service.ledger.observations.slices("flights")
        if row.window_start == last and row.metric == "log_loss"
    ]
    worst, mildest = (choose(losses, key=lambda row: row.low) for choose in (max, min))
    (section,) = re.findall(r"<h2>Performance by slice.*?</section>", page, flags=re.DOTALL)
    told = f"{worst.low:.3f} to {worst.high:.3f}"
    assert section.index(worst.part) < section.index(told) < section.index(mildest.part)
    assert worst.low < worst.value < worst.high
    assert section.count("<tr>") == 1 + len(losses) > 10


def test_a_report_of_a_period_tells_of_that_alone(service, tmp_path: Path) -> None:
    july = Period(since=datetime(2013, 7, 1, tzinfo=UTC), until=datetime(2013, 8, 1, tzinfo=UTC))
    inside, outside, others = (
        Alert(
            id=summary,
            fingerprint="f",
            status="firing",
            severity="warning",
            name="drift",
            model=model,
            summary=summary,
            evidence={},
            started_at=datetime(2013, month, 5, tzinfo=UTC),
            ended_at=None,
        )
        for summary, model, month in (
            ("hot days", "flights", 7),
            ("wet days", "flights", 5),
            ("no trains", "trains", 7),
        )
    )
    text = write_report(
        service.ledger,
        "flights",
        tmp_path / "july.html",
        period=july,
        alerts=(inside, outside, others),
    ).read_text("utf-8")
    assert "1 Jul 2013 to 1 Aug 2013" in text
    assert "hot days" in text
    assert "wet days" not in text
    assert "no trains" not in text
    panes = service.ledger.observations.panes(
        "flights", start=date(2013, 7, 1), end=date(2013, 8, 1)
    )
    rows = sum(pane.num_rows for pane in panes)
    assert f"{rows:,} rows in" in text


def test_a_page_that_finds_no_room_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "m.html"
    path.write_text("of yesterday")
    with Ledger(f"sqlite:///{tmp_path}/l.db") as ledger:
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space left"):
            write_report(ledger, "m", path)
    assert path.read_text() == "of yesterday"
    assert [each.name for each in tmp_path.glob("*.html*")] == ["m.html"]


def test_an_empty_period_is_refused() -> None:
    day = datetime(2013, 7, 1, tzinfo=UTC)
    with pytest.raises(ConfigError, match="is empty"):
        Period(since=day, until=day)


def test_the_report_fetches_and_runs_nothing(page: str) -> None:
    assert "<script" not in page
    addresses = set(re.findall(r"https?://[^\s\"')]+", page))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_ids_of_different_figures_do_not_collide(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', page))
    assert references <= set(ids)


def test_colours_are_left_to_the_page(page: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}", drawn) == []


def test_the_same_ledger_draws_the_same_figures(page: str, service, tmp_path: Path) -> None:
    again = write_report(service.ledger, "flights", tmp_path / "again.html").read_text("utf-8")
    figures = re.compile(r"<svg.*?</svg>", flags=re.DOTALL)
    assert figures.findall(again) == figures.findall(page)


def test_markup_from_the_ledger_is_shown_as_text(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/l.db") as ledger:
        ledger.decisions.add(
            model="m",
            kind="note",
            outcome="<b>",
            who="eve",
            why="<script>alert(1)</script>",
            evidence={},
        )
        text = write_report(ledger, "m", tmp_path / "m.html").read_text("utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_of_many_trainings_the_last_are_drawn(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/l.db") as ledger:
        for number in range(12):
            run = start_training(ledger, "m")
            ledger.runs.log(run.id, {"train_loss": 1.0, "validation_loss": 1.0}, step=1)
            ledger.registry.register(
                "m", bundle=f"{number:064}", signature="{}", run_id=run.id, event_time=None
            )
        text = write_report(ledger, "m", tmp_path / "m.html").read_text("utf-8")
    drawn = re.findall(r">(1\.\d+\.\d+)</text>", text)
    assert drawn == [str(row.version) for row in ledger.registry.list("m")][-10:]
    assert "The last 10 runs." in text


def test_trainings_are_drawn_by_epoch(tmp_path: Path) -> None:
    """Losses are logged by step, which the axis told as epochs."""
    with Ledger(f"sqlite:///{tmp_path}/l.db") as ledger:
        run = start_training(ledger, "m")
        for epoch in range(1, 7):
            losses = {"train_loss": 1.0 / epoch, "validation_loss": 1.0 / epoch}
            ledger.runs.log(run.id, losses, step=1000 * epoch)
        figure = loss_figure(ledger, "m", [])
        assert figure is not None
        assert re.findall(r">(\d+)</text>", figure.svg) == 2 * ["1", "2", "3", "4", "5", "6"]
        assert "variance" not in figure.caption
        ledger.runs.log(run.id, {"rmse": 0.5}, step=6)
        of_numbers = loss_figure(ledger, "m", [])
    assert of_numbers is not None
    assert "Squared errors, as shares of the variance" in of_numbers.caption


def test_a_model_without_history_has_a_page(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/l.db") as ledger:
        text = write_report(ledger, "new", tmp_path / "new.html").read_text("utf-8")
    assert "<h1>new</h1>" in text
    assert "<svg" not in text
