"""Actors that are replaced by others, on a real cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from raymlops.cluster import ClusterRecord, ClusterSettings, connect, dismiss, find, renew, spawn
from raymlops.cluster.renewal import _as_now
from raymlops.errors import ClusterError

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("_joined")]

NAME = "crier"


def crier_class(log: Path) -> type:
    """A class workers get by value: they cannot import this module."""

    class Crier:
        def __init__(self, word: str, times: int) -> None:
            if times < 0:
                raise ValueError(f"times is {times}")
            self.word, self.times = word, times

        def made_from(self) -> Mapping[str, object]:
            return {"word": self.word, "times": self.times}

        def close(self) -> None:
            with log.open("a") as file:
                file.write(f"{self.word}\n")

    return Crier


def elder_class() -> type:
    """A crier of a version that did not say what it was made from."""

    class Crier:
        def __init__(self, word: str) -> None:
            self.word = word

        def cry(self) -> str:
            return self.word

    return Crier


@pytest.fixture
def _joined(cluster: ClusterRecord, home: Path) -> Iterator[None]:
    with connect(ClusterSettings(address="auto"), home=home):
        yield
        dismiss(NAME, {})


def renewed(tmp_path: Path, follow: tuple[str, ...], **made_from: object) -> Mapping[str, Any]:
    import ray

    renew(crier_class(tmp_path / "closed"), NAME, made_from, follow=follow)
    found: Mapping[str, Any] = ray.get(find(NAME).made_from.remote())
    return found


def test_an_actor_is_replaced_where_it_is_to_follow_and_keeps_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    again = partial(renewed, tmp_path)
    assert again(("word",), word="hear", times=1) == {"word": "hear", "times": 1}
    assert again((), word="ye", times=2) == {"word": "hear", "times": 1}
    assert again(("word",), word="hear", times=2) == {"word": "hear", "times": 1}
    assert not (tmp_path / "closed").exists()
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        assert again(("word",), word="ye", times=2) == {"word": "ye", "times": 1}
    assert caplog.messages == ["actor crier is made anew for other settings: word ye, not hear"]
    assert (tmp_path / "closed").read_text() == "hear\n"


def test_an_actor_that_does_not_say_what_it_was_made_from_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import ray

    old = spawn(elder_class(), NAME, "hear")
    assert ray.get(old.cry.remote()) == "hear"
    assert spawn(elder_class(), NAME, "ye") == old
    renew(crier_class(tmp_path / "closed"), NAME, {"word": "ye", "times": 2}, follow=())
    assert ray.get(find(NAME).cry.remote()) == "hear"
    wanted = {"word": "ye", "times": 2}
    assert renewed(tmp_path, ("word",), **wanted) == wanted
    told = "actor crier is made anew for other settings: it does not say which it has"
    assert caplog.messages == [told]


def test_an_actor_of_somebody_else_is_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import ray

    cls = crier_class(tmp_path / "closed")
    renewed(tmp_path, (), word="postgresql://me:hear-hear@db/x", times=1)
    with caplog.at_level(logging.WARNING):
        made_from = {"word": "/home/ye", "times": 2}
        renew(cls, NAME, made_from, follow=["times"], within=["word"])
    assert caplog.messages == [
        "actor crier, of which a cluster has one, goes on for another place (word "
        "postgresql://me:***@db/x, not /home/ye): share these, or use a cluster of your own"
    ]
    assert ray.get(find(NAME).made_from.remote())["times"] == 1


def test_an_actor_that_nobody_wants_any_more_ends_and_one_of_somebody_else_does_not(
    tmp_path: Path,
) -> None:
    renewed(tmp_path, (), word="hear", times=1)
    dismiss(NAME, {"word": "ye"})
    assert find(NAME)
    dismiss(NAME, {"word": "hear"})
    with pytest.raises(ClusterError, match="no actor 'crier'"):
        find(NAME)
    dismiss(NAME, {"word": "hear"})


def test_where_a_successor_does_not_start_the_old_settings_hold_again(tmp_path: Path) -> None:
    import ray

    renewed(tmp_path, (), word="hear", times=1)
    told = r"settings \(times -1, not 1\): ValueError: times is -1; .* it goes on as before"
    with pytest.raises(ClusterError, match=told):
        renewed(tmp_path, ("times",), word="hear", times=-1)
    assert ray.get(find(NAME).made_from.remote()) == {"word": "hear", "times": 1}


def test_of_several_who_renew_at_a_time_one_is_followed_and_all_return(tmp_path: Path) -> None:
    import ray

    words = [f"word-{number}" for number in range(4)]
    renewed(tmp_path, (), word="hear", times=1)
    cls = crier_class(tmp_path / "closed")
    threads = [
        threading.Thread(
            target=renew, args=(cls, NAME, {"word": word, "times": 1}), kwargs={"follow": ("word",)}
        )
        for word in words
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert ray.get(find(NAME).made_from.remote())["word"] in words


def test_settings_of_an_earlier_raymlops_have_what_is_new_since() -> None:
    # They are pickled without it: whatever read it ended in an AttributeError.
    former = ClusterSettings(address="auto")
    del vars(former)["namespace"]
    (now,) = _as_now((former,))
    assert now == ClusterSettings(address="auto")
