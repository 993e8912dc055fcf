"""Merging, held against a model of it: assignments written one after another."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raymlops.config import Layer, merge
from raymlops.config.layers import Key, nested

KEYS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple)
VALUES = st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2) | st.just({})
SOURCES = st.lists(st.tuples(KEYS, VALUES), max_size=5)


def layer(assignments: list[tuple[Key, Any]], name: str) -> Layer:
    """What a file that makes these assignments would be read as."""
    return merge(
        Layer(values={key: value}, origins={key: f"{name}:{line}"})
        for line, (key, value) in enumerate(assignments)
    )


def written(assignments: list[tuple[Key, Any]]) -> dict[str, Any]:
    """The tree after assigning one value after the other, as a person would."""
    tree: dict[str, Any] = {}
    for key, value in assignments:
        branch = tree
        for part in key[:-1]:
            if not isinstance(branch.get(part), dict):
                branch[part] = {}
            branch = branch[part]
        branch[key[-1]] = copy.deepcopy(value)
    return tree


@settings(deadline=None)
@given(SOURCES, SOURCES, SOURCES)
def test_merging_is_associative(first: Any, second: Any, third: Any) -> None:
    a, b, c = layer(first, "a"), layer(second, "b"), layer(third, "c")
    left, right = merge([merge([a, b]), c]), merge([a, merge([b, c])])
    assert left == right == merge([a, b, c])
    assert list(left.values) == list(right.values)


@settings(deadline=None)
@given(SOURCES, SOURCES)
def test_later_wins(first: Any, second: Any) -> None:
    merged = merge([layer(first, "a"), layer(second, "b")])
    assert nested(merged.values) == written([*first, *second])


@settings(deadline=None)
@given(SOURCES, SOURCES)
def test_a_value_keeps_the_origin_of_who_wrote_it(first: Any, second: Any) -> None:
    merged = merge([layer(first, "a"), layer(second, "b")])
    lines = {**{key: f"a:{n}" for n, (key, _) in enumerate(first)}}
    lines |= {key: f"b:{n}" for n, (key, _) in enumerate(second)}
    assert {key: merged.origins[key] for key in merged.values} == {
        key: lines[key] for key in merged.values
    }


@settings(deadline=None)
@given(SOURCES, SOURCES)
def test_inputs_stay_as_they_were(first: Any, second: Any) -> None:
    a, b = layer(first, "a"), layer(second, "b")
    before = copy.deepcopy((a, b))
    tree = nested(merge([a, b]).values)
    scribble(tree)
    assert (a, b) == before


def scribble(tree: dict[str, Any]) -> None:
    """Changes every dictionary of the tree, as whoever got it may."""
    for value in list(tree.values()):
        if isinstance(value, dict):
            scribble(value)
    tree["scribbled"] = True
