from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import pytest

from raymlops.errors import LedgerError, NotFoundError
from raymlops.ledger import Ledger, LogPolicy, MetricLogger, Run
from raymlops.ledger.tracking.metrics import Logged
from tests.ledger.writers import log_many, run_at_once


class Disk:
    """Takes groups, unless it is away."""

    def __init__(self) -> None:
        self.groups: dict[str, list[int]] = {}
        self.is_away = threading.Event()
        self.asked = threading.Event()

    def write(self, group_id: str, logged: Sequence[Logged]) -> None:
        self.asked.set()
        if self.is_away.is_set():
            raise LedgerError("the disk is away")
        self.groups[group_id] = [each.step for each in logged]

    @property
    def steps(self) -> list[int]:
        return [step for group in self.groups.values() for step in group]


def test_what_was_logged_is_there_after_a_flush_and_after_the_block(
    ledger: Ledger, run: Run
) -> None:
    with ledger.runs.logger(run.id) as log:
        for step in range(1000):
            log({"loss": step / 4, "nan": math.nan}, step=step)
        log.flush()
        assert len(ledger.runs.metrics(run.id, "loss")) == 1000
        log({"loss": math.inf}, step=1000)
    found = ledger.runs.metrics(run.id, "loss")
    assert [(m.step, m.value) for m in found[:2]] == [(0, 0.0), (1, 0.25)]
    assert found[-1].value == math.inf
    assert math.isnan(ledger.runs.last_metrics(run.id)["nan"])
    with pytest.raises(NotFoundError, match="the ledger holds no run 'nobody'"):
        ledger.runs.logger("nobody")


def test_a_group_that_is_written_again_adds_nothing(ledger: Ledger, run: Run) -> None:
    at = run.started_at
    for _ in range(2):
        ledger.runs.log_many(run.id, [Logged({"loss": 0.5}, 1, at)], group_id="g")
    assert [metric.value for metric in ledger.runs.metrics(run.id)] == [0.5]


def test_groups_are_closed_by_size_and_by_age() -> None:
    disk = Disk()
    with MetricLogger(disk.write, LogPolicy(group_calls=10, max_age_s=0.01)) as log:
        for step in range(25):
            log({"loss": 0.0}, step=step)
        log.flush()
        disk.asked.clear()
        log({"loss": 0.0}, step=25)
        assert disk.asked.wait(10)  # nobody flushes, its age does
    assert disk.steps == list(range(26))
    assert all(len(group) <= 10 for group in disk.groups.values())


def test_rows_are_kept_while_the_database_is_away() -> None:
    disk = Disk()
    disk.is_away.set()
    with MetricLogger(disk.write, LogPolicy(max_age_s=0.01)) as log:
        for step in range(100):
            log({"loss": 0.0}, step=step)
        assert disk.asked.wait(10)
        disk.is_away.clear()
        log.flush()
        assert disk.steps == list(range(100))


def test_memory_is_bounded_and_the_error_says_what_waits() -> None:
    disk = Disk()
    disk.is_away.set()
    policy = LogPolicy(group_calls=5, held_calls=20, patience_s=0.2)
    with MetricLogger(disk.write, policy) as log:
        for step in range(20):
            log({"loss": 0.0}, step=step)
        with pytest.raises(LedgerError, match=r"20 logged steps wait .* for 0\.2 s: the disk is"):
            log({"loss": 0.0}, step=20)
        disk.is_away.clear()
    assert disk.steps == list(range(20))  # what was not taken in is not there, all else is


def test_what_is_logged_after_the_block_is_refused() -> None:
    """It was held for ever, and nobody said so."""
    disk = Disk()
    with MetricLogger(disk.write, LogPolicy()) as log:
        log({"loss": 0.5}, step=1)
    with pytest.raises(LedgerError, match=r"step 2 was logged after the block .* log it"):
        log({"loss": 0.25}, step=2)
    log.flush()
    assert disk.steps == [1]


def test_the_error_of_a_run_is_not_hidden_by_one_of_its_logger() -> None:
    disk = Disk()
    disk.is_away.set()

    def train(divisor: int) -> None:
        with MetricLogger(disk.write, LogPolicy(patience_s=0.05)) as log:
            log({"loss": 1 / divisor})
            log({"loss": 1 / (divisor - 1)})

    with pytest.raises(ZeroDivisionError):
        train(1)
    with pytest.raises(LedgerError, match="2 logged steps wait"):
        train(2)


def test_a_policy_that_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="group_calls is 10, held_calls 5"):
        LogPolicy(group_calls=10, held_calls=5)


@pytest.mark.parametrize("buffered", [False, True])
def test_eight_processes_that_log_at_once_lose_no_row(
    ledger: Ledger, run: Run, buffered: bool
) -> None:
    count = 1000 if buffered else 50
    run_at_once(log_many, [(ledger.url, run.id, n * count, count, buffered) for n in range(8)])
    found = [(metric.step, metric.value) for metric in ledger.runs.metrics(run.id)]
    assert found == [(step, step / 8) for step in range(8 * count)]
