"""SQLite on one node, callers on another: two real nodes, on one machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from raymlops.errors import LedgerError, NotFoundError
from raymlops.ledger import Code, Ledger, Run, Version, open_ledger
from raymlops.ledger.reach import scribe_name

pytestmark = pytest.mark.cluster
NAMESPACE = "raymlops"


@pytest.fixture(scope="module")
def far_node() -> Iterator[str]:
    """The id of the second node of a cluster whose head this process has joined."""
    import ray
    from ray.cluster_utils import Cluster

    # Its port is any that is free: where another Ray has 8265, this one would leave a socket open.
    head = {"num_cpus": 1, "include_dashboard": False, "dashboard_port": None}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False)
    try:
        yield node.node_id
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def far(node: str, task: Any, *args: Any) -> Any:
    """What `task` returns on the far node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.get(ray.remote(task).options(scheduling_strategy=there, num_cpus=1).remote(*args))


def start(ledger: Ledger, model: str) -> Run:
    code = Code(commit="c", dirty_digest=None)
    return ledger.runs.start(
        kind="train", model=model, params={"C": 1.0}, code=code, config="{}", environment="",
        inputs={},
    )  # fmt: skip


def train_and_register(url: str) -> dict[str, Any]:
    """A training as any process would write it down; and whether it touched the file itself."""
    features, labels = load_breast_cancer(return_X_y=True)
    with open_ledger(url) as ledger:
        run = start(ledger, "tumours")
        with ledger.runs.recording(run), ledger.runs.logger(run.id) as log:
            for step in range(1, 6):
                model = LogisticRegression(max_iter=step * 400).fit(features, labels)
                log({"log_loss": float(log_loss(labels, model.predict_proba(features)))}, step=step)
        version = ledger.registry.register(
            "tumours", bundle="b" * 64, signature="{}", run_id=run.id
        )
        ledger.registry.move(
            "tumours", "champion", version.version, who="me", why="first", evidence={}
        )
        best = ledger.runs.best("log_loss", minimize=True, where="params.C = 1")
        opened = [file.path for file in psutil.Process().open_files()]
        return {
            "run": run.id,
            "best": best.id,
            "version": version,
            "losses": len(ledger.runs.metrics(run.id)),
            "status": ledger.runs.get(run.id).status,
            "opened": [path for path in opened if "ledger.db" in path],
        }


def test_a_task_on_another_node_sees_no_difference(far_node: str, url: str) -> None:
    with open_ledger(url) as ledger:
        done = far(far_node, train_and_register, url)
        assert done["opened"] == []
        assert (done["status"], done["losses"], done["best"]) == ("finished", 5, done["run"])
        assert ledger.registry.resolve("tumours@champion") == done["version"]
        assert len(ledger.runs.metrics(done["run"], "log_loss")) == 5


def fail_in_every_way(url: str) -> list[tuple[str, str]]:
    from raymlops.ledger.fencing import Fence

    told = []
    with open_ledger(url) as ledger:

        def stale() -> None:
            with ledger.fenced(Fence(name="m", token=1)):
                pass

        def fenced_out() -> None:
            with ledger.fenced(Fence(name="n", token=1)):
                ledger._fences.admit(Fence(name="n", token=2))
                ledger.releases.publish("m", {})

        with ledger.fenced(Fence(name="m", token=2)):
            pass
        for act in (
            lambda: ledger.runs.get("nobody"),
            lambda: ledger.registry.resolve("tumours@1.0.0"),
            lambda: ledger.runs.list(where="loss < 3"),
            stale,
            fenced_out,
        ):
            try:
                act()
            except Exception as error:
                told.append((type(error).__name__, str(error)))
    return told


def test_errors_arrive_as_they_were_raised(far_node: str, url: str, tmp_path: Path) -> None:
    near = f"sqlite:///{tmp_path / 'near.db'}"
    with open_ledger(url), open_ledger(near):
        told = far(far_node, fail_in_every_way, url)
        assert told == fail_in_every_way(near)
        assert [name for name, _ in told] == [
            "NotFoundError", "NotFoundError", "QueryError", "StaleLeaseError",
            "StaleLeaseError",
        ]  # fmt: skip


def open_there(url: str) -> str:
    try:
        open_ledger(url).runs.list()
    except LedgerError as error:
        return str(error)
    return "opened"


def test_no_other_node_makes_a_ledger(far_node: str, url: str, tmp_path: Path) -> None:
    assert "holds no ledger" in far(far_node, open_there, url)
    assert not (tmp_path / "ledger.db").exists()


def write_much(url: str, told: str, count: int) -> None:
    """Decisions, logged values and versions; each is told once it was acknowledged."""
    with open_ledger(url) as ledger, Path(told).open("a") as file:
        run = start(ledger, "m")
        for number in range(count):
            decision = ledger.decisions.add(
                model="m", kind="k", outcome=str(number), who="w", why="y", evidence={}
            )
            ledger.runs.log(run.id, {"loss": number / 4}, step=number)
            version = ledger.registry.register("m", bundle=str(number), signature="", run_id=run.id)
            row = [number, decision.digest, str(version.version)]
            file.write(json.dumps(row) + "\n")
            file.flush()


def test_nothing_is_lost_or_done_twice_when_the_writer_is_killed(
    far_node: str, url: str, tmp_path: Path
) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    told, count = tmp_path / "told", 150
    with open_ledger(url) as ledger:
        there = NodeAffinitySchedulingStrategy(far_node, soft=False)
        done = (
            ray.remote(write_much).options(scheduling_strategy=there).remote(url, str(told), count)
        )
        for until in (20, 60, 100):
            while not told.exists() or len(told.read_text().splitlines()) < until:
                assert not ray.wait([done], timeout=0.02)[0]
            scribe = ray.get_actor(scribe_name(url), namespace=NAMESPACE)
            ray.kill(scribe, no_restart=until == 60)  # with and without one that Ray restarts
        ray.get(done)
        rows = [json.loads(line) for line in told.read_text().splitlines()]
        assert [number for number, _, _ in rows] == list(range(count))
        assert [d.digest for d in ledger.decisions.list(model="m")] == [d for _, d, _ in rows]
        assert [str(v.version) for v in ledger.registry.list("m")] == [v for _, _, v in rows]
        (run,) = ledger.runs.list()
        found = [(metric.step, metric.value) for metric in ledger.runs.metrics(run.id)]
        assert found == [(number, number / 4) for number in range(count)]
        assert ledger._seals.broken() == []


def test_a_request_is_carried_out_once(tmp_path: Path) -> None:
    from raymlops.ledger.reach import Call, Scribe

    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Ledger(url) as ledger:
        call = Call(
            house="Decisions", method="add", args=(), request_id="r", fences=(),
            kwargs={"model": "m", "kind": "k", "outcome": "o", "who": "w", "why": "y",
                    "evidence": {"share": 0.1}},
        )  # fmt: skip
        first = Scribe(url).carry_out(call)
        again = Scribe(url).carry_out(call)  # another process, after the first one died
        assert first.error is None
        assert again == first
        assert [d.digest for d in ledger.decisions.list(model="m")] == [first.value.digest]
        missing = Call(
            house="Registry", method="get", args=("m", Version(1, 0, 0)), kwargs={},
            request_id="s", fences=(),
        )  # fmt: skip
        assert isinstance(Scribe(url).carry_out(missing).error, NotFoundError)
