from __future__ import annotations

import pytest

from raymlops.errors import OutOfMemoryError, TrainingError
from raymlops.train.failures import cause_of

# As Ray Train handed them on.
KILLED = (
    "ActorDiedError: The actor died unexpectedly before finishing this task.\n"
    "\tclass_name: RayTrainWorker\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
)
LOST_PEER = (
    "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] "
    "Connection closed by peer [127.0.0.1]:2034"
)
LOST_SHARD = "raymlops.errors.LostShardError: shard 0 is lost: The actor is dead"
RAISED = "TrainingError: the loss is nan at step 3 of epoch 1"
HUNGRY = "OutOfMemoryError: Task was killed due to the node running low on memory."


@pytest.mark.parametrize(
    ("failures", "kind", "rank"),
    [
        ({0: LOST_PEER, 1: KILLED}, "lost", 0),
        ({0: LOST_PEER}, "lost", 0),
        ({0: KILLED, 1: LOST_SHARD}, "lost", 0),
        ({0: LOST_PEER, 1: RAISED}, "raised", 1),
        ({0: KILLED, 1: HUNGRY}, "memory", 1),
        ({}, "lost", 0),
    ],
)
def test_what_others_lost_is_not_the_cause(failures: dict[int, str], kind: str, rank: int) -> None:
    failure = cause_of(failures)
    assert (failure.kind, failure.rank) == (kind, rank)
    assert failure.may_pass == (kind == "lost")


def test_the_error_names_the_way_out() -> None:
    hungry = cause_of({2: HUNGRY}).error("digits-1", 0)
    assert isinstance(hungry, OutOfMemoryError)
    assert "worker 2 ran out of memory" in str(hungry)
    assert "use a smaller batch_size" in str(hungry)
    lost = cause_of({0: KILLED}).error("digits-1", 3)
    assert type(lost) is TrainingError
    assert "worker 0 was lost after 3 restarts: The actor is dead" in str(lost)
