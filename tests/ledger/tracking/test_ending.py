"""How runs end: finished, failed, interrupted, and where the ledger does not take it."""

from __future__ import annotations

from typing import Any

import pytest

from raymlops.errors import LedgerError
from raymlops.ledger import Ledger, Run
from raymlops.ledger.tracking.runs import Runs


def test_a_run_that_raises_is_failed_with_its_error(ledger: Ledger, run: Run) -> None:
    with pytest.raises(ZeroDivisionError), ledger.runs.recording(run):
        _ = 1 / 0
    found = ledger.runs.get(run.id)
    assert (found.status, found.error) == ("failed", "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("ended", "told"),
    [(KeyboardInterrupt(), "KeyboardInterrupt"), (SystemExit(15), "SystemExit: 15")],
)
def test_a_run_that_somebody_ended_is_interrupted(
    ledger: Ledger, run: Run, ended: BaseException, told: str
) -> None:
    """It was failed, and who looks for what went wrong was shown every Ctrl-C."""
    with pytest.raises(type(ended)), ledger.runs.recording(run):
        raise ended
    found = ledger.runs.get(run.id)
    assert (found.status, found.error) == ("interrupted", told)
    assert ledger.runs.list(status="interrupted") == [found]


@pytest.mark.parametrize("is_written", [False, True])
def test_what_finished_waits_for_a_ledger_that_is_away(
    is_written: bool, ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days of training were recorded as lost where its database failed over at their end."""
    monkeypatch.setattr("raymlops.ledger.tracking.runs._RETRY_S", 0.0)
    end, num_tries = Runs.end, 0

    def away(runs: Runs, *args: Any) -> None:
        nonlocal num_tries
        num_tries += 1
        if is_written or num_tries > 3:
            end(runs, *args)
        if num_tries <= 3:
            raise LedgerError("the database is away")

    monkeypatch.setattr(Runs, "end", away)
    with ledger.runs.recording(run):
        pass
    assert ledger.runs.get(run.id).status == "finished"
    assert num_tries == (1 if is_written else 4)


def test_what_never_comes_back_is_not_waited_for_without_end(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("raymlops.ledger.tracking.runs._RETRY_S", 0.0)
    monkeypatch.setattr("raymlops.ledger.tracking.runs._PATIENCE_S", 0.05)

    def away(*_: object) -> None:
        raise LedgerError("the database is away")

    monkeypatch.setattr(Runs, "end", away)
    with pytest.raises(LedgerError, match="the database is away"), ledger.runs.recording(run):
        pass
    told = f"run {run.id} has finished, and waits to say so: the database is away"
    assert caplog.messages == [told]


def test_a_run_that_somebody_else_failed_does_not_finish(ledger: Ledger, run: Run) -> None:
    with pytest.raises(LedgerError, match="is failed already"), ledger.runs.recording(run):
        ledger.runs.fail(run.id, "TrainingError: killed")


def test_why_a_run_failed_is_raised_though_the_ledger_does_not_take_it(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk the caller was told of the ledger, and not what had filled it."""

    def full(*_: object) -> None:
        raise LedgerError("database or disk is full")

    monkeypatch.setattr(type(ledger.runs), "fail", full)
    with pytest.raises(ZeroDivisionError), ledger.runs.recording(run):
        _ = 1 / 0
    told = f"how run {run.id} ended is not recorded: database or disk is full"
    assert told in caplog.messages


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyboardInterrupt(), ("interrupted", "KeyboardInterrupt")),
        (OSError("no room"), ("failed", "OSError: no room")),
        (None, ("finished", None)),
    ],
)
def test_how_a_run_ended_is_written_when_the_ledger_is_back(
    is_written: bool,
    error: BaseException | None,
    told: tuple[str, str | None],
    ledger: Ledger,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An operator whose training failed while its database was away had it running ever after."""
    end = Runs.end

    def away(runs: Runs, *args: Any) -> None:
        if is_written:
            end(runs, *args)
        raise LedgerError("the database is away")

    monkeypatch.setattr("raymlops.ledger.tracking.runs._PATIENCE_S", 0.0)
    monkeypatch.setattr(Runs, "_recorded_status", lambda *_: None)

    def trained() -> None:
        with ledger.runs.recording(run):
            if error is not None:
                raise error

    with monkeypatch.context() as patched:
        patched.setattr(Runs, "end", away)
        with pytest.raises((KeyboardInterrupt, OSError, LedgerError)) as caught:
            trained()
    assert error is None or caught.value is error
    assert list(ledger.runs.speak_for([run.id])) == []
    found = ledger.runs.get(run.id)
    assert (found.status, found.error) == told
    assert list(ledger.runs.speak_for([run.id])) == []


def test_a_run_ends_once(ledger: Ledger, run: Run) -> None:
    ledger.runs.finish(run.id)
    with pytest.raises(LedgerError, match="is finished already, it cannot become failed"):
        ledger.runs.fail(run.id, "late")
