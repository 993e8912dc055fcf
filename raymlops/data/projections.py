"""What is counted of tensors, of which there are too many to count: numbers that tell of each row.

    vector [rows, ...]        its norm, and where it lies along eight directions
    tokens [rows, positions]  how many there are, and where their mean lies along eight directions

Directions are random and always the same. They keep distances between vectors (W. Johnson,
J. Lindenstrauss, 1984), so that a cloud that moves or spreads does so along some of them. A text is
the bag of its tokens, as random indexing has it (P. Kanerva et al., 2000): each token has a place
of its own along every direction, by which other words show whatever their order or number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raymlops.data.features import Column, Columns

NUM_DIRECTIONS = 8

# Tokens share the places of others beyond so many, which only hides some changes.
_NUM_PLACES = 1 << 14
_BLOCK_VALUES = 1 << 20  # of a block's places along all directions: 8 MB


@dataclass(frozen=True, kw_only=True)
class Projection:
    """What is counted of the tensors in `column`, whose values lay within `low` and `high`.

    Zeros behind the last token of a text are padding. `size` is how many values a row had at most.
    """

    column: str
    kind: Literal["vector", "tokens"]
    low: float
    high: float
    size: int

    @classmethod
    def of(cls, column: str, tensors: NDArray[Any]) -> Projection:
        """That of the reference [rows, ...]: rows of whole numbers are tokens, unless these are
        bytes, as pixels are."""
        is_text = tensors.ndim == 2 and tensors.dtype.kind in "iu" and tensors.dtype.itemsize > 1
        return cls(
            column=column,
            kind="tokens" if is_text else "vector",
            low=float(tensors.min()),
            high=float(tensors.max()),
            size=int(np.prod(tensors.shape[1:])),
        )

    @property
    def names(self) -> tuple[str, ...]:
        first = "length" if self.kind == "tokens" else "norm"
        return (f"{self.column} {first}", *directions_named(self.column))

    def read(self, tensors: Column) -> Mapping[str, Column]:
        """The numbers of each row, by name."""
        found = _of_tokens(tensors) if self.kind == "tokens" else along(_flat(tensors))
        return dict(zip(self.names, found, strict=True))


def read_by(projections: Sequence[Projection], columns: Columns) -> Columns:
    """`columns`, instead of tensors with the numbers that tell of them."""
    if not projections:
        return columns
    found = dict(columns)
    for each in projections:
        found |= each.read(found.pop(each.column))
    return found


def directions_named(column: str) -> Iterator[str]:
    return (f"{column} direction {each + 1}" for each in range(NUM_DIRECTIONS))


def along(vectors: NDArray[np.float64]) -> Sequence[NDArray[np.float64]]:
    """Of each of `vectors` [rows, dimension] its norm, and where it lies along each direction."""
    with np.errstate(invalid="ignore"):  # infinite numbers have no direction: they are missing
        places = (vectors @ _directions(vectors.shape[1])).T
    return [np.linalg.norm(vectors, axis=1), *places]


def _of_tokens(tokens: Column) -> Sequence[NDArray[np.float64]]:
    """Of each row its length, and the mean place of its tokens along each direction; a text of
    none lies at 0."""
    is_token = np.asarray(tokens) != 0
    lengths = tokens.shape[1] - np.argmax(is_token[:, ::-1], axis=1)
    lengths[~is_token.any(axis=1)] = 0
    inside = np.arange(tokens.shape[1]) < lengths[:, None]
    numbers = np.asarray(tokens).astype(np.int64) % _NUM_PLACES
    found = np.empty((NUM_DIRECTIONS, len(tokens)))
    places = _directions(_NUM_PLACES)
    step = max(1, _BLOCK_VALUES // max(1, tokens.shape[1] * NUM_DIRECTIONS))
    for start in range(0, len(tokens), step):
        rows = slice(start, start + step)
        of_rows = places[numbers[rows]] * inside[rows, :, None]
        found[:, rows] = (of_rows.sum(axis=1) / np.maximum(lengths[rows, None], 1)).T
    return [lengths.astype(np.float64), *found]


def _flat(tensors: Column) -> NDArray[np.float64]:
    return np.asarray(tensors, np.float64).reshape(len(tensors), -1)


@lru_cache(maxsize=8)
def _directions(dimension: int) -> NDArray[np.float64]:
    """[dimension, directions]"""
    return np.random.default_rng(dimension).normal(size=(dimension, NUM_DIRECTIONS))
