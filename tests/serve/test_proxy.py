"""Applications on Ray Serve, which is played by a list of what it was asked to run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raymlops.errors import ClusterError
from raymlops.serve.proxy import run_application


class FakeServe:
    """Runs what is in `starts`, and says of anything else that it broke."""

    def __init__(self, *starts: str) -> None:
        self.ran: list[str] = []
        self._starts = starts

    def run(self, application: str, *, name: str, route_prefix: str | None) -> None:
        self.ran.append(application)
        if application not in self._starts:
            raise RuntimeError(f"Deploying application {name} failed")

    def status(self) -> SimpleNamespace:
        deployment = SimpleNamespace(message=f"{self.ran[-1]} broke")
        return SimpleNamespace(applications={"m": SimpleNamespace(deployments={"d": deployment})})


@pytest.mark.parametrize(
    ("starts", "before", "ran", "message"),
    [
        (["old"], None, ["new"], "m does not start: new broke$"),
        (["old"], "old", ["new", "old"], "new broke\nWhat ran before runs again$"),
        ([], "old", ["new", "old"], "new broke\nWhat ran .* not start again either: old broke$"),
    ],
)
def test_what_ran_before_an_update_that_does_not_start_runs_again(
    starts: list[str],
    before: str | None,
    ran: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Serve kept the update as its target, and healed nothing any more."""
    fake = FakeServe(*starts)
    monkeypatch.setattr("ray.serve.run", fake.run)
    monkeypatch.setattr("ray.serve.status", fake.status)
    with pytest.raises(ClusterError, match=message):
        run_application("new", name="m", route_prefix=None, before=before)
    assert fake.ran == ran


def test_an_update_that_starts_is_all_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeServe("new")
    monkeypatch.setattr("ray.serve.run", fake.run)
    run_application("new", name="m", route_prefix=None, before="old")
    assert fake.ran == ["new"]
