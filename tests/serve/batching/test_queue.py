from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raymlops.data import GroupedColumns, Layout
from raymlops.serve.batching import BatchPolicy, Waiting, WaitingQueue
from raymlops.serve.batching.outputs import concatenated

POLICY = BatchPolicy(max_rows=8, priority_step_s=1.0)


def request(num_rows: int, since: float, *, priority: int = 0, length: int = 0) -> Waiting:
    made = Waiting({"x": np.zeros(num_rows)}, num_rows, since, 1e9, print, priority)
    made.length = length
    return made


def filled(*requests: Waiting) -> WaitingQueue:
    queue = WaitingQueue(POLICY)
    for each in requests:
        queue.add(each)
    return queue


def sizes(queue: WaitingQueue) -> list[list[int]]:
    """Of all batches, until nothing is left."""
    batches = []
    while batch := queue.take(1.0):
        batches.append([each.num_rows for each in batch])
    return batches


def test_a_batch_takes_requests_whole_and_in_order() -> None:
    def batches(*rows: int) -> list[list[int]]:
        return sizes(filled(*(request(each, i) for i, each in enumerate(rows))))

    assert batches(3, 3, 3) == [[3, 3], [3]]
    assert batches(8, 1) == [[8], [1]]
    assert batches(9, 1) == [[9], [1]]
    assert batches(4, 4, 1) == [[4, 4], [1]]
    assert batches(1, 9, 1) == [[1], [9], [1]]


def test_priority_counts_as_having_come_earlier() -> None:
    queue = filled(request(8, 0.0), request(7, 0.5), request(6, 0.9, priority=1))
    assert sizes(queue) == [[6], [8], [7]]
    queue = filled(request(8, 0.0), request(6, 1.1, priority=1))
    assert sizes(queue) == [[8], [6]]


def test_a_batch_is_of_one_length() -> None:
    queue = filled(
        request(1, 0, length=16), request(2, 1, length=32), request(3, 2, length=16),
        request(4, 3, length=32, priority=9),
    )  # fmt: skip
    head, num_rows = queue.front() or (None, 0)
    assert head is not None
    assert (head.num_rows, num_rows) == (4, 6)
    assert sizes(queue) == [[4, 2], [1, 3]]


requests = st.lists(
    st.tuples(st.integers(1, 10), st.integers(0, 2), st.sampled_from([0, 16])), max_size=40
)


@given(asked=requests, data=st.data())
def test_every_request_that_is_wanted_comes_up_once(
    asked: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    queue = WaitingQueue(POLICY)
    all_of_them = [
        request(rows, i, priority=priority, length=length)
        for i, (rows, priority, length) in enumerate(asked)
    ]
    for each in all_of_them:
        queue.add(each)
    unwanted = data.draw(st.sets(st.sampled_from(all_of_them))) if all_of_them else set()
    for each in unwanted:
        each.answered = True
        queue.drop(each)
    wanted = [each for each in all_of_them if each not in unwanted]
    assert queue.num_rows == sum(each.num_rows for each in wanted)
    assert {*queue} == {*wanted}
    assert len(queue) == len(wanted)
    taken: list[Waiting] = []
    while batch := queue.take(1.0):
        assert len({each.length for each in batch}) == 1
        assert len(batch) == 1 or sum(each.num_rows for each in batch) <= POLICY.max_rows
        taken += batch
    assert len(taken) == len(wanted)
    assert {*taken} == {*wanted}
    assert (queue.num_rows, len(queue), queue.front()) == (0, 0, None)
    lanes = {(each.priority, each.length) for each in taken}
    for priority, length in lanes:
        lane = [e.since for e in taken if (e.priority, e.length) == (priority, length)]
        assert lane == sorted(lane)


def test_columns_that_lie_together_stay_so_when_they_are_batched() -> None:
    layout = Layout([(("a", "b"), np.dtype(float)), (("t",), np.dtype(object))])
    one = GroupedColumns(layout, [[1.0, None], ["x"]], 1)
    two = GroupedColumns(layout, [np.array([[5.0, 7.0], [6.0, 8.0]]), ["y", None]], 2)
    three = GroupedColumns(layout, [[9.0, 10.0], ["z"]], 1)
    wanted = {
        "a": [1.0, 5.0, 7.0, 9.0],
        "b": [None, 6.0, 8.0, 10.0],
        "t": ["x", "y", None, "z"],
    }
    joined = concatenated([one, two, three])
    assert isinstance(joined, GroupedColumns)
    assert (joined.num_rows, len(joined)) == (4, 3)
    assert joined.matrix(("a", "b")) is not None
    assert joined.matrix(("b", "a")) is None
    mixed = concatenated([one, dict(two), three])
    for columns in (joined, mixed):
        found = {name: column.tolist() for name, column in columns.items()}
        found["b"] = [None if value != value else value for value in found["b"]]
        assert found == wanted
    rows = concatenated([one, three])  # lists alone, never looked at
    assert rows["a"].tolist() == [1.0, 9.0]
    assert rows["t"].tolist() == ["x", "z"]
