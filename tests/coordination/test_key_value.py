"""The contract of `KeyValue`."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from raymlops.coordination import Coordinator, KeyValue
from tests.coordination.places import Place
from tests.coordination.processes import Other, write_values


@pytest.fixture
def values(coordinator: Coordinator) -> KeyValue:
    return coordinator.key_value("values")


def value_of(values: KeyValue, key: str) -> bytes | None:
    entry = values.get(key)
    return entry.value if entry else None


def test_a_value_is_read_as_it_was_written(values: KeyValue) -> None:
    every_byte = bytes(range(256))
    written = values.set("a", every_byte)
    assert values.get("a") == written
    assert written.value == every_byte
    assert values.set("a", b"").version > written.version
    assert value_of(values, "a") == b""


def test_a_key_that_was_never_written_is_none(values: KeyValue) -> None:
    assert values.get("a") is None
    assert values.keys() == []
    assert not values.delete("a")


def test_keys_are_listed_in_order(values: KeyValue) -> None:
    for key in ("b", "a/../x", ".hidden", "ä"):
        values.set(key, b"")
    assert values.keys() == [".hidden", "a/../x", "b", "ä"]
    assert values.delete("b")
    assert values.keys() == [".hidden", "a/../x", "ä"]


def test_namespaces_are_apart(coordinator: Coordinator) -> None:
    coordinator.key_value("one").set("a", b"1")
    assert coordinator.key_value("two").get("a") is None


def test_others_see_what_was_written(place: Place, values: KeyValue) -> None:
    written = values.set("a", b"1")
    with place.connect() as other:
        assert other.key_value("values").get("a") == written


def test_compare_and_set_writes_only_at_the_version_it_knows(values: KeyValue) -> None:
    first = values.compare_and_set("a", b"1", version=0)
    assert first is not None
    assert values.compare_and_set("a", b"other", version=0) is None
    second = values.compare_and_set("a", b"2", version=first.version)
    assert second is not None
    assert values.compare_and_set("a", b"other", version=first.version) is None
    assert values.get("a") == second
    assert values.compare_and_set("b", b"other", version=second.version) is None


def test_a_key_that_was_deleted_and_written_again_is_another_version(values: KeyValue) -> None:
    """ZooKeeper's own versions start at 0 again, so a late writer would win."""
    known = values.set("a", b"same")
    values.delete("a")
    again = values.set("a", b"same")
    assert again.version > known.version
    assert values.compare_and_set("a", b"late", version=known.version) is None
    values.delete("a")
    assert values.compare_and_set("a", b"late", version=again.version) is None
    assert values.get("a") is None


def test_a_value_that_is_too_large_is_refused(values: KeyValue) -> None:
    values.set("a", b"x" * 1_000_000)
    for write in (
        lambda: values.set("a", b"x" * 1_000_001),
        lambda: values.compare_and_set("b", b"x" * 1_000_001, version=0),
    ):
        with pytest.raises(ValueError, match=r"1,000,001 bytes is too large, 1,000,000"):
            write()
    assert values.keys() == ["a"]
    assert value_of(values, "a") == b"x" * 1_000_000


def test_a_watch_gives_the_present_state_and_then_each_change(values: KeyValue) -> None:
    with values.watch("a") as changes:
        assert changes.next(timeout_s=60) is None
        values.set("a", b"1")
        latest = values.set("a", b"2")
        assert changes.next(timeout_s=60) == latest
        values.delete("a")
        assert changes.next(timeout_s=60) is None
        again = values.set("a", b"2")
        assert changes.next(timeout_s=60) == again
        with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
            changes.next(timeout_s=0.05)


def test_a_watch_of_one_key_does_not_tell_of_others(values: KeyValue) -> None:
    with values.watch("a") as changes:
        changes.next(timeout_s=60)
        values.set("b", b"1")
        with pytest.raises(TimeoutError):
            changes.next(timeout_s=0.2)


def test_a_watch_never_loses_the_last_value(
    place: Place, values: KeyValue, start: Callable[..., Other]
) -> None:
    with values.watch("a") as changes:
        other = start(write_values, place, "a", 200)
        seen = [changes.next(timeout_s=60)]
        while seen[-1] is None or seen[-1].value != b"199":
            seen.append(changes.next(timeout_s=60))
        assert other.hear() == "done"
        with pytest.raises(TimeoutError):
            changes.next(timeout_s=0.05)
    versions = [entry.version for entry in seen if entry is not None]
    assert sorted(set(versions)) == versions


def test_a_watch_is_an_iterator_that_wakes_a_sleeping_thread(values: KeyValue) -> None:
    seen: list[bytes | None] = []

    def follow() -> None:
        with values.watch("a") as changes:
            for entry in changes:
                seen.append(entry.value if entry else None)
                ready.set()
                if entry is not None:
                    return

    ready = threading.Event()
    thread = threading.Thread(target=follow)
    thread.start()
    assert ready.wait(10)
    values.set("a", b"1")
    thread.join(10)
    assert not thread.is_alive()
    assert seen == [None, b"1"]
