from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from raymlops.config import Secret
from raymlops.coordination import CoordinationSettings
from raymlops.operate import Workspace
from tests.coordination.places import Place


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"url": "http://zk/x"}, "url is 'http://zk/x'; write zookeeper://HOST:PORT/ROOT"),
        ({"url": "zookeeper:///x"}, "url is 'zookeeper:///x'; write"),
        ({"url": "zookeeper://zk:2181"}, "needs a root"),
        ({"url": "zookeeper://zk/a//b"}, "needs a root"),
        ({"user": "a"}, "user and password go together"),
        ({"password": Secret("a")}, "user and password go together"),
        ({"user": "a:b", "password": Secret("c")}, "user 'a:b' has a colon"),
        ({"session_timeout_s": 0}, "session_timeout_s is 0; it must be above 0"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoordinationSettings(**wrong)  # type: ignore[arg-type]


def test_a_password_in_the_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match=r"set coordination\.user and \.password") as caught:
        CoordinationSettings(url="zookeeper://me:secret@zk:2181/x")
    assert "secret" not in str(caught.value)


def test_a_url_is_hosts_and_a_root() -> None:
    settings = CoordinationSettings(url="zookeeper://a:2181,b:2182/teams/raymlops/")
    assert (settings.hosts, settings.root) == ("a:2181,b:2182", "/teams/raymlops")


def test_a_workspace_coordinates_where_its_settings_say(
    zookeeper_place: Place, tmp_path: Path
) -> None:
    settings = zookeeper_place.settings
    assert settings.password is not None
    given = {**asdict(settings), "password": settings.password.reveal()}
    overrides = [f"coordination.{key}={value}" for key, value in given.items()]
    with Workspace.open(overrides=[f"home={tmp_path / 'home'}", *overrides]) as workspace:
        with workspace.coordinator.hold("job"):
            assert len(zookeeper_place.queue("locks/job")) == 1
        lease = workspace.coordinator.hold("job")
        lease.__enter__()
    assert zookeeper_place.queue("locks/job") == []  # the session ended with the workspace


def test_a_workspace_without_settings_coordinates_in_its_home(tmp_path: Path) -> None:
    with (
        Workspace.open(overrides=[f"home={tmp_path}"]) as workspace,
        workspace.coordinator.hold("job"),
    ):
        assert len(Place(tmp_path / "coordination").queue("locks/job")) == 1
