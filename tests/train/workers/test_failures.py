from __future__ import annotations

import json
import pickle
import traceback
from collections.abc import Callable

import pytest

from raymlops.config import Secret
from raymlops.errors import LostWorkerError, OutOfMemoryError
from raymlops.train.backend import backend_of
from raymlops.train.workers.attempt import _text
from raymlops.train.workers.failures import Failure, cause_of
from raymlops.train.workers.tracebacks import LeftBehind, leaving_traceback
from tests.train.keras.specs import MLP as KERAS_MLP
from tests.train.specs import MLP

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
SECRET = Secret("shibboleth-82")
HUNGRY = "OutOfMemoryError: Task was killed due to the node running low on memory."


@pytest.mark.parametrize(
    ("failures", "kind", "rank"),
    [
        ({0: LOST_PEER, 1: KILLED}, "lost", 1),  # who died, and not who heard of it
        ({0: LOST_PEER}, "lost", 0),
        ({0: "RuntimeError: Application timeout caused pair closure"}, "lost", 0),
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
    hungry = cause_of({2: HUNGRY}).error("digits-1", 0, lighter="less")
    assert isinstance(hungry, OutOfMemoryError)
    assert "worker 2 ran out of memory" in str(hungry)
    assert str(hungry).endswith("; use less")
    lost = cause_of({0: KILLED}).error("digits-1", 3, lighter="less")
    assert type(lost) is LostWorkerError
    assert "worker 0 was lost after 3 restarts: The actor is dead" in str(lost)
    back = str(cause_of({1: RAISED}).error("digits-1", 0, lighter="less", step=40))
    assert back.endswith("; `raymlops train --resume digits-1` goes on from step 40")


def test_a_worker_that_hangs_is_replaced() -> None:
    """It was a failure of its own, of which the last line was advice to wait longer."""
    from ray.train.v2._internal.exceptions import WorkerHealthCheckTimeoutError

    hanging = WorkerHealthCheckTimeoutError(
        "A worker health check has been hanging for 600.24 seconds. Marking the worker as dead.\n"
        "Worker info: Worker(\n  actor=Actor(RayTrainWorker, 3980ea49),\n)"
    )
    failure = cause_of({1: _text(hanging)})
    assert (failure.kind, failure.who, failure.may_pass) == ("lost", "worker 1", True)
    assert "health check has been hanging for 600.24 seconds" in failure.reason
    assert "RayTrainWorker" not in failure.text


def left_behind(body: Callable[[], object]) -> str:
    """As Ray Train hands on what a worker raised."""
    try:
        body()
    except Exception:
        return f"UserExceptionWithTraceback: {traceback.format_exc()}"
    raise AssertionError("nothing was raised")


def broken_file() -> None:
    raise RuntimeError("the file is broken:\n  line 3: x\n\n(see the log)")


def foreign() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        raise KeyError("rows") from error


def mentions() -> None:
    raise KeyError("rows")  # where MemoryError, out of memory, ActorDiedError mean nothing


def refused() -> None:
    raise ConnectionRefusedError(111, "Connection refused")


def test_the_reason_is_all_that_was_said_and_where() -> None:
    """Of a message the last line was told, and of a KeyError neither file nor line."""
    file = broken_file.__code__.co_filename
    line = broken_file.__code__.co_firstlineno + 1
    failure = cause_of({0: left_behind(broken_file)})
    assert failure.reason == (
        "RuntimeError: the file is broken:\n  line 3: x\n\n(see the log) "
        f"(in broken_file, {file}:{line})"
    )
    assert "Traceback" in failure.text


def test_what_is_raised_takes_its_traceback_along() -> None:
    """Ray hands on the error that was raised, pickled, and not where."""
    assert "in broken_file" in handed_on(broken_file).reason


class UnknownColumnError(Exception):
    def __init__(self, column: str, table: str) -> None:
        super().__init__(f"table {table} has no column {column}")


def unknown_column() -> None:
    raise UnknownColumnError("price", "flights")


def test_an_error_that_pickle_cannot_make_again_is_told() -> None:
    """Ray told of pickle's own: a missing argument of an error that nobody had heard of."""
    assert (
        "table flights has no column price (in unknown_column" in handed_on(unknown_column).reason
    )


def handed_on(body: Callable[[], object]) -> Failure:
    """What is known of what a worker raised, once it was pickled."""
    with pytest.raises(LeftBehind) as caught:
        leaving_traceback(lambda _: body(), {})
    return cause_of({0: _text(pickle.loads(pickle.dumps(caught.value)))})


def test_the_place_is_in_no_library() -> None:
    reason = cause_of({0: left_behind(lambda: json.loads("{"))}).reason
    assert reason.startswith("json.decoder.JSONDecodeError: Expecting")
    assert f"(in <lambda>, {left_behind.__code__.co_filename}:" in reason
    chained = cause_of({0: left_behind(foreign)}).reason
    assert chained.startswith("KeyError: 'rows' (in foreign, ")
    torch_alone = (
        "UserExceptionWithTraceback: Traceback (most recent call last):\n"
        '  File "/venv/lib/python3.12/site-packages/torch/nn/parallel/it.py", line 9, in f\n'
        "    raise RuntimeError(\nRuntimeError: Expected it\nIn addition, set it\n"
    )
    assert cause_of({0: torch_alone}).reason == "RuntimeError: Expected it\nIn addition, set it"


TRACED = """\
Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/keras/src/layers/input_spec.py", line 239, in check
    raise ValueError(
ValueError: in user code:

    File "/home/me/mine.py", line 56, in penalty  *
        return self.model(inputs)
    File "/venv/lib/python3.11/site-packages/keras/src/layers/input_spec.py", line 239, in check
        raise ValueError(

    ValueError: Exception encountered when calling Dense.call().
    
    \x1b[1mInput 0 of layer 'dense' is incompatible: expected axis -1 to have value 64\x1b[0m
    
    Arguments received by Dense.call():
      • inputs=tf.Tensor(shape=(40, 60), dtype=float32)
"""  # noqa: W293


def test_of_what_tensorflow_traced_the_last_words_are_told() -> None:
    """Its frames, colours and arguments are in the message, all of which was told."""
    assert cause_of({0: f"UserExceptionWithTraceback: {TRACED}"}).reason == (
        "ValueError: Exception encountered when calling Dense.call(). Input 0 of layer 'dense' is "
        "incompatible: expected axis -1 to have value 64 (in penalty, /home/me/mine.py:56)"
    )


FAILED = """\
Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/tensorflow/python/eager/execute.py", line 53, in execute
    tensors = pywrap_tfe.TFE_Py_Execute(ctx._handle, device_name, op_name,
tensorflow.python.framework.errors_impl.InvalidArgumentError: Graph execution error:

Detected at node Softmax/Softmax defined at (most recent call last):
  File "/venv/lib/python3.11/site-packages/tensorflow/mirrored_run.py", line 387, in run

  File "/home/me/mine.py", line 12, in call

  File "/venv/lib/python3.11/site-packages/tensorflow/util/tf_stack.py", line 162, in extract

Received a label value of 14 which is outside the valid range of [0, 10).  Label values: 14 1 -1
\t [[{{node Softmax/Softmax}}]] [Op:__inference__learn_batch_502]
"""


def test_of_what_tensorflow_computed_the_reason_is_told() -> None:
    """The name of the node and of TensorFlow's function was all that was told."""
    assert cause_of({0: FAILED}).reason == (
        "InvalidArgumentError: Received a label value of 14 which is outside the valid range of "
        "[0, 10). (node Softmax/Softmax) (in call, /home/me/mine.py:12)"
    )


def test_of_memory_a_framework_names_what_it_has() -> None:
    """A Keras spec was told of accumulation, and of shards."""
    assert "accumulation" in backend_of(MLP).lighter
    assert "accumulation" not in backend_of(KERAS_MLP).lighter


def test_tensorflow_ran_out_of_memory_too() -> None:
    """It was an error of its own, without what to do."""
    hungry = (
        "Traceback (most recent call last):\n"
        '  File "/venv/lib/python3.11/site-packages/keras/random.py", line 34, in uniform\n'
        "    return tf.random.stateless_uniform(\n"
        "tensorflow.python.framework.errors_impl.ResourceExhaustedError: {{function_node "
        "__wrapped__Uniform_device_/job:localhost/device:CPU:0}} OOM when allocating tensor with "
        "shape[64,1000] and type float by allocator cpu [Op:Uniform] name: \n"
    )
    failure = cause_of({0: hungry})
    assert (failure.kind, failure.reason) == (
        "memory",
        "ResourceExhaustedError: OOM when allocating tensor with shape[64,1000] and type float by "
        "allocator cpu",
    )


@pytest.mark.parametrize("body", [mentions, refused])
def test_words_of_a_users_own_are_no_sign(body: Callable[[], None]) -> None:
    """A comment beside what raised made it want of memory, and what a data factory could not reach
    a lost worker, whose training was tried four times."""
    assert cause_of({0: left_behind(body)}).kind == "raised"


def test_a_connection_is_lost_where_workers_talk_or_another_died() -> None:
    between = left_behind(refused).replace(
        refused.__code__.co_filename, "/venv/site-packages/torch/distributed/rendezvous.py"
    )
    assert cause_of({0: between}).kind == "lost"
    assert cause_of({0: left_behind(refused), 1: KILLED}).kind == "lost"


def test_what_ray_adds_to_every_death_is_left_out() -> None:
    """Half a page of it, a line of its own, stood in each warning."""
    died = f"{KILLED} Worker exit detail: End of file. Some common causes include: (1) the process"
    assert cause_of({0: died}).reason.endswith("Worker exit detail: End of file.")
