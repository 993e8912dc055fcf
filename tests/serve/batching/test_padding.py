from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.data import Columns
from raymlops.errors import RequestError
from raymlops.serve.batching import Batcher, BatchPolicy, Outputs
from raymlops.serve.batching.padding import cut, length_of, padded, padded_length

LENGTHS = (4, 8, 16)


@given(length=st.integers(1, 16), rows=st.integers(1, 3), depth=st.integers(1, 2))
def test_what_is_padded_and_cut_is_what_it_was(length: int, rows: int, depth: int) -> None:
    tokens = np.arange(1.0, rows * length * depth + 1).reshape(rows, length, depth)
    columns = {"tokens": tokens, "age": np.zeros(rows)}
    full = padded_length(length_of(columns), LENGTHS)
    assert full == min(each for each in LENGTHS if each >= length)
    longer = padded(columns, full, -1.0)
    assert longer["tokens"].shape == (rows, full, depth)
    assert (longer["tokens"][:, length:] == -1.0).all()
    assert longer["age"] is columns["age"]
    np.testing.assert_array_equal(cut(dict(longer), length, ["tokens"])["tokens"], tokens)


def test_texts_are_padded_with_nothing() -> None:
    words = np.array([["a", "b"]], dtype=object)
    assert padded({"words": words}, 4, 0.0)["words"].tolist() == [["a", "b", "", ""]]


def test_a_row_that_is_too_long_is_refused() -> None:
    with pytest.raises(RequestError, match="a row has 17 positions, at most 16 are taken") as told:
        padded_length(17, LENGTHS)
    assert told.value.status == 413


def test_rows_of_one_length_share_a_batch_within_the_tokens() -> None:
    shapes: list[tuple[int, ...]] = []

    def engine(columns: Columns) -> Outputs:
        shapes.append(columns["tokens"].shape)
        return {"twice": columns["tokens"] * 2, "sum": columns["tokens"].sum(axis=1)}

    async def test() -> None:
        policy = BatchPolicy(lengths=LENGTHS, max_tokens=32, cut_outputs=("twice",))
        batcher = Batcher(engine, policy)
        asked: list[Any] = [np.full((1, length), float(length)) for length in (3, 9, 4, 12, 2, 16)]
        answers = await asyncio.gather(*(batcher.submit({"tokens": each}) for each in asked))
        for tokens, answer in zip(asked, answers, strict=True):
            np.testing.assert_array_equal(answer["twice"], tokens * 2)
            np.testing.assert_array_equal(answer["sum"], tokens.sum(axis=1))
        with pytest.raises(RequestError, match="a row has 20 positions"):
            await batcher.submit({"tokens": np.zeros((1, 20))})
        await batcher.close()

    asyncio.run(test())
    assert sorted(shapes) == [(1, 16), (2, 16), (3, 4)]
