"""Applications on Ray Serve, which is played by a list of what it was asked to run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raymlops.errors import ClusterError
from raymlops.serve.deployment.proxy import run_application


class FakeServe:
    """Runs what is in `starts`, and says of anything else that it broke; m is known from the start
    where something `ran`."""

    def __init__(self, *starts: str, ran: str | None = None, why: str = "broke") -> None:
        self.ran: list[str] = []
        self._starts = starts
        self._why = why
        self.known = {"m"} if ran is not None else set()

    def run(self, application: str, *, name: str, route_prefix: str | None) -> None:
        self.ran.append(application)
        self.known.add(name)
        if application not in self._starts:
            raise RuntimeError(f"Deploying application {name} failed")

    def status(self) -> SimpleNamespace:
        message = f"{self.ran[-1]} {self._why}" if self.ran else ""
        application = SimpleNamespace(deployments={"d": SimpleNamespace(message=message)})
        return SimpleNamespace(applications=dict.fromkeys(self.known, application))

    def delete(self, name: str) -> None:
        self.known.remove(name)

    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("run", "status", "delete"):
            monkeypatch.setattr(f"ray.serve.{name}", getattr(self, name))


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
    fake = FakeServe(*starts, ran="old")
    fake.stand_in(monkeypatch)
    with pytest.raises(ClusterError, match=message):
        run_application("new", name="m", route_prefix=None, before=before)
    assert (fake.ran, fake.known) == (ran, {"m"})


MESSAGE = """failed to start 3 times in a row. Error:
\x1b[36mray::ServeReplica:m.initialize()\x1b[39m (pid=1, ip=127.0.0.1)
  File "/ray/serve/_private/replica.py", line 1928, in initialize
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "/raymlops/models/postprocessing.py", line 65, in apply
    raise ModelError(
    ^^^^^^^^^^^^^^^^^
raymlops.errors.ModelError: the model gives shape [1, 3], not one logit a row
  and says more"""


def test_what_is_new_and_does_not_start_is_taken_off_again_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two tracebacks of Ray's stood before the reason, and the model was listed as served."""
    fake = FakeServe(why=MESSAGE)
    fake.stand_in(monkeypatch)
    with pytest.raises(ClusterError) as refused:
        run_application("new", name="m", route_prefix=None)
    assert str(refused.value) == (
        "application m does not start: raymlops.errors.ModelError: the model gives shape [1, 3], "
        "not one logit a row\n  and says more"
    )
    assert fake.known == set()


@pytest.mark.parametrize("ran", ["old", None])
def test_what_is_new_and_interrupted_is_taken_off_again(
    monkeypatch: pytest.MonkeyPatch, ran: str | None
) -> None:
    """It came up some time later, and answered by a traffic table that was withdrawn."""
    fake = FakeServe(ran=ran)

    def interrupt(*_: object, name: str, **__: object) -> None:
        fake.known.add(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "run", interrupt)
    fake.stand_in(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_application("new", name="m", route_prefix=None, before=ran)
    assert fake.known == (set() if ran is None else {"m"})


def test_an_update_that_starts_is_all_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeServe("new", ran="old")
    fake.stand_in(monkeypatch)
    run_application("new", name="m", route_prefix=None, before="old")
    assert fake.ran == ["new"]
