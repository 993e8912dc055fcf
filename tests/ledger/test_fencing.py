from __future__ import annotations

import threading
from pathlib import Path

import pytest

from raymlops.coordination import CoordinationSettings, connect_coordinator
from raymlops.errors import NotFoundError, StaleLeaseError
from raymlops.ledger import Ledger, Run
from raymlops.ledger.fencing import Fence
from tests.endurance import endurance


def decide(ledger: Ledger, outcome: str) -> None:
    ledger.decisions.add(model="m", kind="k", outcome=outcome, who="w", why="y", evidence={})


@pytest.mark.parametrize("num_rounds", [9, endurance(100)])
def test_no_write_of_a_stale_holder_is_accepted(
    ledger: Ledger, run: Run, tmp_path: Path, num_rounds: int
) -> None:
    coordinator = connect_coordinator(CoordinationSettings(), tmp_path)

    def take_over(number: int) -> None:
        with coordinator.hold("m", timeout_s=60) as newer, ledger.fenced(newer):
            decide(ledger, f"{number} newer")

    writes = (
        lambda: decide(ledger, "stale"),
        lambda: ledger.runs.log(run.id, {"loss": 1.0}),
        lambda: ledger.releases.publish("m", {}),
    )
    accepted = 0
    for number in range(num_rounds):
        with coordinator.hold("m", timeout_s=60) as stale:
            pass  # it loses the lock here, and does not know
        with ledger.fenced(stale):
            decide(ledger, f"{number} before")
            newer = threading.Thread(target=take_over, args=(number,))
            newer.start()
            newer.join()
            try:
                writes[number % 3]()
                accepted += 1
            except StaleLeaseError:
                pass
    assert accepted == 0
    outcomes = [decision.outcome for decision in ledger.decisions.list(model="m")]
    assert outcomes == [f"{n} {word}" for n in range(num_rounds) for word in ("before", "newer")]
    assert ledger.runs.metrics(run.id) == []
    assert ledger.releases.published("m") is None


def test_a_stale_holder_is_refused_at_the_start_already(ledger: Ledger) -> None:
    with ledger.fenced(Fence(name="m", token=2)):
        pass  # it has written nothing, and is known all the same
    with (
        pytest.raises(StaleLeaseError, match=r"token 1 of the lock 'm'.* token 2 has written"),
        ledger.fenced(Fence(name="m", token=1)),
    ):
        pytest.fail("it must not come here")
    with ledger.fenced(Fence(name="other", token=1)):
        decide(ledger, "another lock")


def test_a_lock_is_forgotten_by_decision_when_its_coordinator_counts_anew(ledger: Ledger) -> None:
    with ledger.fenced(Fence(name="m", token=7)):
        pass
    with pytest.raises(ValueError, match="needs a name and a reason: 'ann', ' '"):
        ledger.forget_lock("m", who="ann", why=" ")
    with pytest.raises(NotFoundError, match=r"lock 'n'; known are \['m'\]"):
        ledger.forget_lock("n", who="ann", why="ZooKeeper lost its disk")
    with (
        pytest.raises(StaleLeaseError, match="raymlops ledger forget-lock m"),
        ledger.fenced(Fence(name="m", token=1)),
    ):
        pytest.fail("it must not come here")
    decision = ledger.forget_lock("m", who="ann", why="ZooKeeper lost its disk")
    assert decision.outcome == "token 7 of lock m is forgotten"
    with ledger.fenced(Fence(name="m", token=1)):
        decide(ledger, "counted anew")


def test_a_fence_holds_for_its_thread_and_its_block_alone(ledger: Ledger) -> None:
    with ledger.fenced(Fence(name="m", token=1)):
        with ledger.fenced(Fence(name="m", token=2)):
            pass
        thread = threading.Thread(target=decide, args=(ledger, "by another thread"))
        thread.start()
        thread.join()
        with pytest.raises(StaleLeaseError):
            decide(ledger, "stale")
    decide(ledger, "after the block")
    outcomes = [decision.outcome for decision in ledger.decisions.list()]
    assert outcomes == ["by another thread", "after the block"]
