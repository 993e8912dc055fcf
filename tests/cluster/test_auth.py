from __future__ import annotations

from pathlib import Path

import pytest

from raymlops.cluster.auth import ensure_token, find_token, token_auth_wanted
from raymlops.errors import ClusterError


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ray" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    return path


def test_a_token_is_made_once_for_its_owner_alone(token_file: Path) -> None:
    assert find_token() is None
    token = ensure_token()
    assert len(token) == 64
    assert (ensure_token(), find_token()) == (token, token)
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in token_file.parent.iterdir()] == ["token"]


def test_a_token_file_that_ray_left_open_is_closed(token_file: Path) -> None:
    token_file.parent.mkdir()
    token_file.write_text("secret\n")
    token_file.chmod(0o644)
    assert ensure_token() == "secret"
    assert token_file.stat().st_mode & 0o777 == 0o600


def test_an_empty_token_file_is_no_token(token_file: Path) -> None:
    token_file.parent.mkdir()
    token_file.touch(mode=0o600)
    with pytest.raises(ClusterError, match="is empty: delete it"):
        ensure_token()


def test_a_token_that_is_out_of_reach_says_where_else_it_may_lie(token_file: Path) -> None:
    """`up` of a user without a home folder asked for another home of raymlops."""
    token_file.parent.touch()
    with pytest.raises(ClusterError, match=f"kept in {token_file}: Not a directory; set HOME, or"):
        ensure_token()
    token_file.parent.unlink()
    token_file.mkdir(parents=True)
    with pytest.raises(ClusterError, match="Is a directory; set HOME, or RAY_AUTH_TOKEN_PATH"):
        find_token()


def test_the_token_of_the_environment_comes_first(
    token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert ensure_token() == "given"
    assert not token_file.exists()


def test_a_token_is_asked_for_unless_the_user_said_no(monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_auth_wanted()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert not token_auth_wanted()
    monkeypatch.setenv("RAY_AUTH_MODE", "tokn")
    with pytest.raises(ClusterError, match="'tokn'"):
        token_auth_wanted()
