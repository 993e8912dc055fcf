"""MLflow that is down, and a mirror that is killed."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from raymlops.errors import MirrorError
from raymlops.ledger import Ledger, Run, Version
from raymlops.ledger.mirror import Copied, FollowPolicy, Mirror, delay_s, follow, mirror
from raymlops.storage import Store
from tests.endurance import endurance
from tests.ledger.mirror.mirrored import history, start
from tests.processes import PROCESSES
from tests.servers.mlflow import mlflow_client
from tests.servers.postgresql import create_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

NUM_RUNS = 5
NUM_STEPS = 60
NAMES = tuple(f"m{number}" for number in range(10))

# (method of MLflow's client, call): the mirror dies after this call, before it can mark it.
KILLS = (
    ("create_run", 1),
    ("log_artifact", 3),
    ("create_run", 3),
    ("log_batch", 3),
    ("log_batch", 5),
    ("set_terminated", 1),
    ("set_terminated", 3),
    ("create_model_version", 1),
    ("set_registered_model_alias", 2),
    ("set_registered_model_alias", 3),
)


def fill(ledger: Ledger, store: Store) -> list[Run]:
    """Runs that log in turn, the first step NaN; three of them have a version."""
    runs = [start(ledger, params={"number": number}) for number in range(NUM_RUNS)]
    for step in range(NUM_STEPS):
        for run in runs:
            value = math.nan if step == 0 else step / 7
            ledger.runs.log(run.id, dict.fromkeys(NAMES, value), step=step)
    for run in runs:
        ledger.runs.finish(run.id)
    for number, run in enumerate(runs[:3]):
        bundle = store.put_tree({"model.onnx": b"%d" % number})
        version = Version(1, 0, number)
        ledger.registry.register(
            "tumours", bundle=bundle, signature="{}", run_id=run.id, version=version
        )
        ledger.registry.move("tumours", "champion", version, who="ann", why="w", evidence={})
    return runs


def assert_complete(client: MlflowClient, ledger: Ledger, runs: list[Run]) -> None:
    """Every run and metric is in MLflow once, with the same fields."""
    experiment = client.get_experiment_by_name("tumours")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    keys = {run.data.tags["raymlops.id"]: run.info.run_id for run in found}
    assert len(found) == len(keys)
    assert set(keys) == {run.id for run in runs}
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in runs:
        key = keys[run.id]
        assert client.get_run(key).data.params == {"number": str(run.params["number"])}
        kept = ledger.runs.metrics(run.id)
        for name in NAMES:
            assert history(client, key, name) == [
                (metric.step, math.floor(metric.at.timestamp() * 1000), repr(metric.value))
                for metric in kept
                if metric.name == name
            ]


def mirror_until_killed(
    ledger_url: str, store_uri: str, mlflow_url: str, files: str, method: str, number: int
) -> None:
    """Catches up in a process of its own, which ends at the given call."""
    from mlflow import MlflowClient

    mirror._CHUNK_ROWS = 700  # several chunks, each of several runs
    call = getattr(MlflowClient, method)
    calls = []

    def killed(*given: Any, **named: Any) -> Any:
        answer = call(*given, **named)
        calls.append(method)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(MlflowClient, method, killed)
    with Ledger(ledger_url) as ledger:
        Mirror(ledger, Store(store_uri), mlflow_url, artifacts=files).catch_up()


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        yield ledger


@pytest.mark.parametrize("kills", [KILLS[::3], endurance(KILLS)], ids=len)
def test_a_mirror_killed_anywhere_doubles_and_loses_nothing(
    sqlite_ledger: Ledger,
    store: Store,
    mlflow_url: str,
    tmp_path: Path,
    kills: tuple[tuple[str, int], ...],
) -> None:
    runs = fill(sqlite_ledger, store)
    files = str(tmp_path / "files")
    for kill in kills:
        arguments = (sqlite_ledger.url, store.uri, mlflow_url, files, *kill)
        process = PROCESSES.Process(target=mirror_until_killed, args=arguments)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, kill

    with Mirror(sqlite_ledger, store, mlflow_url, artifacts=files) as last:
        last.catch_up()

    client = mlflow_client(mlflow_url)
    assert_complete(client, sqlite_ledger, runs)
    versions = client.search_model_versions("name = 'tumours'")
    assert Counter(version.tags["raymlops.version"] for version in versions) == {
        "1.0.0": 1,
        "1.0.1": 1,
        "1.0.2": 1,
    }
    champion = client.get_model_version_by_alias("tumours", "champion")
    assert champion.tags["raymlops.version"] == "1.0.2"


class Script(Event):
    """Takes the place of the wait between two looks, and calls `act` with how many there were."""

    def __init__(self, act: Callable[[int], None]) -> None:
        super().__init__()
        self.waited_s: list[float] = []
        self._act = act

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waited_s.append(timeout)
        self._act(len(self.waited_s))
        return self.is_set()


def test_training_goes_on_while_mlflow_is_down_and_is_complete_afterwards(
    ledger: Ledger,
    store: Store,
    mlflow_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "mounted"
    folder.write_bytes(b"")  # where the mount should be: MLflow's database cannot be reached
    run = start(ledger, params={"number": 0})
    looks: list[Copied] = []

    def act(look: int) -> None:
        """What happens between two looks of the mirror."""
        if look <= 4:
            ledger.runs.log(run.id, dict.fromkeys(NAMES, look / 7), step=look)
        if look == 4:
            ledger.runs.finish(run.id)
            folder.unlink()
            folder.mkdir()
            mlflow_file.rename(folder / "mlflow.db")
        if look == 6:
            ended.set()

    ended = Script(act)
    url = f"sqlite:///{folder / 'mlflow.db'}"
    policy = FollowPolicy(every_s=5.0, longest_s=30.0)
    caplog.set_level(logging.WARNING)
    with Mirror(ledger, store, url, artifacts=str(tmp_path / "files")) as follower:
        follow(follower.catch_up, policy, ended, copied=looks.append)

    assert ended.waited_s == [10.0, 20.0, 30.0, 30.0, 5.0, 5.0]
    assert [look.num_metrics for look in looks] == [40, 0]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert warnings[0].startswith("the mirror falls behind, and catches up later: MLflow at sqlite")
    assert warnings[1] == "the mirror is back after 4 failed looks"
    assert_complete(mlflow_client(url), ledger, [run])


@pytest.mark.slow  # MLflow's migrations in PostgreSQL
def test_a_server_lost_in_the_middle_of_a_copy_is_caught_up_with(
    sqlite_ledger: Ledger, store: Store, postgresql_server: str, tmp_path: Path
) -> None:
    """MLflow in PostgreSQL, which throws everybody out before the third batch of metrics."""
    from mlflow import MlflowClient

    name = f"mlflow-{tmp_path.name}"
    url = create_database(postgresql_server, name)
    client = mlflow_client(url)
    runs = fill(sqlite_ledger, store)
    copied: list[Copied] = []
    calls: list[str] = []
    log_batch = MlflowClient.log_batch

    def admit(admitted: bool) -> None:
        address = postgresql_server.replace("+psycopg", "")
        with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
            statement = f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {admitted}'
            connection.execute(statement.encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )

    def interrupted(*given: Any, **named: Any) -> None:
        calls.append("log_batch")
        if len(calls) == NUM_RUNS + 3:  # a batch of parameters a run, then metrics
            admit(False)
        log_batch(*given, **named)

    def act(look: int) -> None:
        assert look < 10, "it never came back"
        if look == 1:
            assert copied == []
        if look == 2:
            admit(True)
        if copied:
            ended.set()

    ended = Script(act)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", interrupted)
        with Mirror(sqlite_ledger, store, url, artifacts=str(tmp_path / "files")) as follower:
            follow(follower.catch_up, FollowPolicy(), ended, copied=copied.append)

    assert [look.num_metrics for look in copied] == [NUM_RUNS * NUM_STEPS * len(NAMES)]
    assert_complete(client, sqlite_ledger, runs)
    admit(False)  # MLflow keeps its connections, and the server would wait for them


def test_a_missing_store_is_an_error_that_names_it(
    ledger: Ledger, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    url = f"sqlite:///{tmp_path}/file/mlflow.db"
    with (
        Mirror(ledger, store, url) as broken,
        pytest.raises(MirrorError, match=f"MLflow at {url} cannot be reached: "),
    ):
        broken.catch_up()


def test_waits_double_up_to_the_longest() -> None:
    policy = FollowPolicy(every_s=5.0, longest_s=60.0)
    assert [delay_s(policy, failures) for failures in (0, 1, 2, 3, 4, 10_000)] == [
        5.0, 10.0, 20.0, 40.0, 60.0, 60.0,
    ]  # fmt: skip


def test_a_policy_that_never_waits_is_refused() -> None:
    with pytest.raises(ValueError, match="every_s is 0, it must be positive"):
        FollowPolicy(every_s=0)
    with pytest.raises(ValueError, match="every_s 400"):
        FollowPolicy(every_s=400)
