from __future__ import annotations

from ray.core.generated.gcs_pb2 import ActorTableData, JobTableData, PlacementGroupTableData

from raymlops.cluster.holders import Holder, share_out

OURS, THEIRS = b"\1", b"\2"
JOBS = [JobTableData(job_id=OURS, driver_pid=11, driver_ip_address="10.0.0.1")]


def actor(name: str, cpus: float, *, job: bytes = OURS, stays: bool = True) -> ActorTableData:
    return ActorTableData(
        name=name,
        class_name="Counter",
        job_id=job,
        is_detached=stays,
        state=ActorTableData.ALIVE,
        required_resources={"CPU": cpus},
    )


def group(cpus: float, *, pending: bool = False) -> PlacementGroupTableData:
    found = PlacementGroupTableData(
        creator_job_id=OURS,
        state=PlacementGroupTableData.PENDING if pending else PlacementGroupTableData.CREATED,
    )
    found.bundles.add().unit_resources["CPU"] = cpus
    return found


def test_replicas_are_told_together_and_a_process_with_all_that_ends_with_it() -> None:
    in_group = actor("", 1.0, stays=False)
    in_group.placement_group_id = b"1"
    dead = actor("monitor", 1.0)
    dead.state = ActorTableData.DEAD
    actors = [
        actor("SERVE_REPLICA::digits#Model#a", 1.0),
        actor("SERVE_REPLICA::digits#Model#b", 1.0),
        actor("board", 0.1),
        actor("", 0.5, stays=False),
        actor("", 0.25, job=THEIRS, stays=False),
        actor("sleeper", 0.0),
        in_group,
        dead,
    ]
    groups = [group(2.0), group(8.0, pending=True)]
    assert share_out("CPU", 5.0, actors=actors, groups=groups, jobs=JOBS) == (
        Holder(name="process 11 of 10.0.0.1", amount=2.5),
        Holder(name="replicas of digits", amount=2.0),
        Holder(name="Counter", amount=0.25),
        Holder(name="tasks", amount=0.15),
        Holder(name="board", amount=0.1),
    )
