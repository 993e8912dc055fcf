"""A spec trained by a workspace: its home, its ledger, the Ray that is connected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raymlops.cluster import ClusterSettings
from raymlops.errors import TrainingError
from raymlops.ledger import Run
from raymlops.operate.workspace import Workspace
from raymlops.train import ParallelPlan, Trainer, TrainResult, TrainSpec

if TYPE_CHECKING:
    from raymlops.train.backend import Spec
    from raymlops.train.plan.proposal import Proposal


def fit(
    workspace: Workspace,
    spec: Spec,
    plan: ParallelPlan | None = None,
    *,
    on_start: Callable[[Run], None] | None = None,
) -> TrainResult:
    """Trains `spec` under `plan`, by default in one process; `on_start` and what is raised are
    those of `Trainer.fit`.

    Ray must be connected: `with workspace.connect(): ...`.
    """
    trainer = Trainer(
        spec,
        plan=plan or ParallelPlan(),
        home=workspace.home,
        ledger_url=workspace.ledger_url,
        cluster=_connected(),
    )
    return trainer.fit(on_start=on_start)


def resume(
    workspace: Workspace,
    run_id: str,
    *,
    plan: ParallelPlan | None = None,
    on_start: Callable[[Run], None] | None = None,
) -> TrainResult:
    """Goes on with a run, under its own plan or another; see `Trainer.resume`."""
    return Trainer.resume(
        run_id,
        plan=plan,
        home=workspace.home,
        ledger_url=workspace.ledger_url,
        cluster=_connected(),
        on_start=on_start,
    )


def propose_plan(spec: Spec) -> Proposal:
    """The best plan for `spec` on the Ray that is connected, a CPU a worker, and why.

    Raises:
        PlanError: the model does not fit; says what the smallest plan would need.
        TrainingError: the spec is none of torch, or its device has memory of its own, of which Ray
            tells nothing.
    """
    if not isinstance(spec, TrainSpec):
        raise TrainingError(
            "plan auto weighs the layouts of torch, and a Keras model knows one: give a plan such "
            "as data=2"
        )
    if spec.device != "cpu":
        raise TrainingError(
            f"plan auto weighs the memory of hosts, and device is {spec.device}, of whose memory "
            "Ray tells nothing: give a plan such as data=2"
        )
    import ray

    from raymlops.train.layouts.limits import propose_plan as propose

    untyped: Any = ray
    nodes = [node["Resources"] for node in untyped.nodes() if node["Alive"]]
    rooms = [(int(node["CPU"]), node["memory"]) for node in nodes if node.get("CPU", 0) >= 1]
    return propose(
        spec,
        max_workers=sum(num_cpus for num_cpus, _ in rooms),
        memory_bytes=min(int(size_bytes / num_cpus) for num_cpus, size_bytes in rooms),
    )


def _connected() -> ClusterSettings:
    """The Ray that is connected, however it was reached."""
    import ray

    context = ray.get_runtime_context()
    return ClusterSettings(address=context.gcs_address, namespace=context.namespace)
