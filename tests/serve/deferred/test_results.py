"""Where results are kept, for how long, and who finds them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from raymlops.errors import StorageError
from raymlops.serve.deferred import Results, Ticket
from raymlops.serve.web import Response
from raymlops.storage import Files
from tests.serve.deferred.world import POLICY, RESULTS, World


def test_what_an_earlier_version_kept_is_found(world: World) -> None:
    Files(world.folder).write("results/m/r-1", b'{"at":1000.0}')
    assert world.submit("r-1")[0] == 202
    assert world.ask("GET", f"{RESULTS}/r-1")[0] == 202
    assert world.asked == []


def test_another_replica_finds_the_result(world: World, tmp_path: Path) -> None:
    world.submit("r-1")
    world.answer()
    other = Results(Files(str(tmp_path)), "m", POLICY)
    found = other.get(Ticket("r-1"), world.now)
    assert found is not None
    assert found.body == b'{"outputs": []}'


def test_results_are_kept_for_a_while(world: World) -> None:
    world.submit("r-1")
    world.answer()
    world.now += 99.0
    assert world.ask("GET", f"{RESULTS}/r-1")[0] == 200
    assert world.results.sweep(world.now) == 0
    world.now += 1.0
    status, body, _ = world.ask("GET", f"{RESULTS}/r-1")
    assert (status, "is older than 100 s" in body["error"]) == (404, True)
    assert world.results.sweep(world.now) == 1


def test_a_sweep_reads_no_result_whose_time_is_known(world: World) -> None:
    """Each replica read all results, a megabyte each, every minute."""
    read: list[str] = []

    class Counted(Files):
        def read(self, name: str) -> bytes:
            read.append(name)
            return super().read(name)

    results = Results(Counted(world.folder), "m", POLICY)
    other = Results(Counted(world.folder), "m2", POLICY)
    results.finish(Ticket("r-1"), Response(200, b"a"), 1000.0)
    results.begin(Ticket("r-2"), 1000.0)
    other.finish(Ticket("r-3"), Response(200, b"a"), 1000.0)
    assert [results.sweep(1001.0), results.sweep(1002.0)] == [0, 0]
    assert sorted(read) == ["results/m/r-1", "results/m/r-2", "results/m/r-2"]
    assert results.sweep(1010.0) == 1  # what was lost
    results.forget(Ticket("r-1"))
    results.finish(Ticket("r-1"), Response(200, b"b"), 1050.0)  # after it was asked for again
    assert [results.sweep(1100.0), results.sweep(1149.0)] == [0, 0]
    assert results.sweep(1150.0) == 1
    assert other.sweep(1150.0) == 1


def test_what_is_no_result_is_left_alone(world: World) -> None:
    """A file of somebody else's kept all results from being swept."""
    files = Files(world.folder)
    files.write("results/m/.DS_Store", b"\0\0\0\1Bud1")
    world.results.finish(Ticket("r-1"), Response(200, b"a"), 1000.0)
    assert world.results.sweep(1100.0) == 1
    assert list(files.list("results/")) == ["results/m/.DS_Store"]
    files.write("results/m/r-2", b"half a lin")
    with pytest.raises(StorageError, match="results/m/r-2 is no result, remove it"):
        world.results.sweep(1100.0)


def test_what_was_lost_with_its_replica_can_be_asked_again(world: World) -> None:
    world.results.begin(Ticket("r-1"), world.now)  # by a replica that died
    world.now += 10.0
    assert world.ask("GET", f"{RESULTS}/r-1")[0] == 404
    assert world.submit("r-1")[0] == 202
    assert len(world.asked) == 1


def test_results_are_open_to_nobody_else(tmp_path: Path) -> None:
    """They are what a key finds, and every user of the machine could read them."""
    results = Results(Files(str(tmp_path)), "m", POLICY)
    ticket = Ticket("r-1", "owner", "")

    def modes() -> set[int]:
        found = (tmp_path / "results").rglob("*")
        return {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "results", *found)}

    assert results.begin(ticket, 1.0)
    assert modes() == {0o700, 0o600}
    results.finish(ticket, Response(503), 2.0)
    assert modes() == {0o700, 0o600}
    assert results.begin(ticket, 3.0)
    assert modes() == {0o700, 0o600}
