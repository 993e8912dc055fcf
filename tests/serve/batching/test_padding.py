from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.data import Columns
from raymlops.errors import ModelError, RequestError
from raymlops.serve.batching import Batcher, BatchPolicy, Outputs
from raymlops.serve.batching.padding import (
    cut,
    length_of,
    padded,
    padded_length,
    padding_only,
    with_positions,
)

LENGTHS = (4, 8, 16)


@given(length=st.integers(1, 16), rows=st.integers(1, 3), depth=st.integers(1, 2))
def test_what_is_padded_and_cut_is_what_it_was(length: int, rows: int, depth: int) -> None:
    tokens = np.arange(1.0, rows * length * depth + 1).reshape(rows, length, depth)
    short = with_positions({"tokens": tokens, "age": np.zeros(rows)}, ())
    full = padded_length(length_of(short), LENGTHS)
    assert full == min(each for each in LENGTHS if each >= length)
    longer = padded(short, full, -1.0)
    assert [*longer] == ["tokens"]
    assert longer["tokens"].shape == (rows, full, depth)
    assert (longer["tokens"][:, length:] == -1.0).all()
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


@pytest.mark.parametrize("tokens", [3, 4, 6])
def test_a_column_of_fixed_width_is_left_alone(tokens: int) -> None:
    shapes: list[dict[str, tuple[int, ...]]] = []

    def engine(columns: Columns) -> Outputs:
        shapes.append({name: column.shape for name, column in columns.items()})
        return {"sum": columns["tokens"].sum(axis=1)}

    async def test() -> None:
        batcher = Batcher(engine, BatchPolicy(lengths=(8,), pad_columns=("tokens",)))
        await batcher.submit({"embedding": np.ones((1, 4)), "tokens": np.ones((1, tokens))})
        for columns in (
            {"token": np.ones((1, 3))},
            {"tokens": np.ones(1), "token": np.ones((1, 3))},
        ):
            with pytest.raises(
                ModelError, match=r"names tokens; .* several positions a row are token"
            ):
                await batcher.submit(columns)
        await batcher.close()

    asyncio.run(test())
    assert shapes == [{"embedding": (1, 4), "tokens": (1, 8)}]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sum", "cut_outputs names 'sum', which has one value a row"),
        ("twise", "cut_outputs names 'twise'; the outputs are twice, sum"),
    ],
)
def test_an_output_that_cannot_be_cut_is_told(name: str, message: str) -> None:
    """One request was never answered, the other got what padding had added."""

    def engine(columns: Columns) -> Outputs:
        return {"twice": columns["tokens"] * 2, "sum": columns["tokens"].sum(axis=1)}

    async def test() -> None:
        batcher = Batcher(engine, BatchPolicy(lengths=LENGTHS, cut_outputs=(name,)))
        with pytest.raises(ModelError, match=message):
            async with asyncio.timeout(10.0):
                await batcher.submit({"tokens": np.ones((1, 3))})
        await batcher.close()

    asyncio.run(test())


def test_requests_of_other_lengths_have_batches_of_their_own() -> None:
    """They failed as one batch, which numpy could not make."""
    shapes: list[tuple[int, ...]] = []

    def engine(columns: Columns) -> Outputs:
        shapes.append(columns["tokens"].shape)
        return {"sum": columns["tokens"].sum(axis=1)}

    async def test() -> None:
        batcher = Batcher(engine, BatchPolicy(), free=("tokens",))
        asked = [np.ones((1, length)) for length in (3, 5, 3, 4, 5)]
        answers = await asyncio.gather(*(batcher.submit({"tokens": each}) for each in asked))
        assert [each["sum"].tolist() for each in answers] == [[3], [5], [3], [4], [5]]
        assert sorted(shapes) == [(1, 4), (2, 3), (2, 5)]
        await batcher.close()

    asyncio.run(test())


def test_columns_of_a_fixed_shape_are_left_as_they_are() -> None:
    """Images that are deployed beside texts were padded, too."""
    policy = BatchPolicy(lengths=LENGTHS, max_tokens=32)
    assert padding_only(policy, ()) == BatchPolicy()
    assert padding_only(policy, ("tokens",)).pad_columns == ("tokens",)
    named = BatchPolicy(lengths=LENGTHS, pad_columns=("words",))
    assert padding_only(named, ("tokens",)) == padding_only(named, ()) == named
