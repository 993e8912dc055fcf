"""Tables whose columns hold lists: embeddings, images, texts as tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.data import open_source
from raymlops.data.distributions import LocalRows
from raymlops.data.table_drift import compare_tables
from tests.data.compared import POLICY, drifted, rows


def test_embeddings_are_compared_along_directions() -> None:
    rng = np.random.default_rng(0)

    def table(shift: float) -> pa.Table:
        vectors = rng.normal(size=(2_000, 64))
        vectors[:, 5] += shift
        return pa.table({"vector": [None, *vectors[1:].tolist()]})

    near, far = table(0.0), table(4.0)
    assert compare_tables(rows(near), rows(table(0.0)), policy=POLICY).alike
    found = compare_tables(rows(near), rows(far), policy=POLICY)
    assert len(found.features) == 10
    assert {"vector norm", "vector direction 1"} <= set(drifted(found))
    assert "vector length" not in drifted(found)


def test_vectors_of_another_model_have_another_length() -> None:
    ours = pa.table({"vector": [[1.0, 2.0]] * 600})
    other = pa.table({"vector": [[1.0, 2.0, 3.0]] * 300 + [[1.0, 2.0]] * 300})
    found = compare_tables(rows(ours), rows(other), policy=POLICY)
    effects = {each.verdict.feature: each.verdict.effect for each in found.features}
    assert effects["vector length"] == effects["vector norm"] == 0.5


@pytest.mark.parametrize("lie", ["lists", "tensors"])
def test_images_are_compared_along_directions(lie: str) -> None:
    """They were not compared: of a table of images nothing had drifted."""
    rng = np.random.default_rng(0)

    def table(shift: int) -> pa.Table:
        images = rng.integers(0, 200, (2_000, 1, 4, 4)).astype(np.uint8)
        images[:, :, 0] += np.uint8(shift)
        if lie == "tensors":
            column = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
        else:
            column = pa.array(
                [None, *images[1:].tolist()], pa.list_(pa.list_(pa.list_(pa.uint8())))
            )
        return pa.table({"image": column})

    near = table(0)
    assert compare_tables(rows(near), rows(table(0)), policy=POLICY).alike
    found = compare_tables(rows(near), rows(table(50)), policy=POLICY)
    assert len(found.features) == 9
    assert {"image norm", "image direction 1"} <= set(drifted(found))


def test_images_of_another_size_are_missing() -> None:
    small, large = [[[1, 2], [3, 4]]], [[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]
    torn = [[[1, 2], [3]], None, [[1, 2], [None, 4]]]
    before = pa.table({"image": small * 600})
    after = pa.table({"image": small * 300 + large * 297 + torn})
    found = compare_tables(rows(before), rows(after), policy=POLICY)
    assert {(each.verdict.test, each.verdict.effect) for each in found.features} == {
        ("missing", 0.5)
    }
    assert compare_tables(rows(after), rows(after), policy=POLICY).alike  # by how many there are


def test_texts_of_other_words_are_told_apart() -> None:
    """Tokens were compared by their number alone."""
    rng = np.random.default_rng(0)

    def table(first: int) -> pa.Table:
        tokens = [rng.integers(first, first + 50, 5 + row % 20).tolist() for row in range(1_000)]
        return pa.table({"tokens": pa.array(tokens, pa.list_(pa.int32()))})

    same = table(1)
    assert compare_tables(rows(same), rows(table(1)), policy=POLICY).alike
    found = drifted(compare_tables(rows(same), rows(table(30)), policy=POLICY))
    assert "tokens length" not in found
    assert found


def test_lists_of_any_length_are_compared_by_it() -> None:
    """One such column kept all others from being compared."""
    tags = [[1.0] * (1 + row % 5) for row in range(600)]
    before = pa.table({"tags": tags, "temp": [float(row) for row in range(600)]})
    after = before.set_column(0, "tags", pa.array([each * 2 for each in tags]))
    assert compare_tables(rows(before), rows(before), policy=POLICY).alike
    found = compare_tables(rows(before), rows(after), policy=POLICY)
    assert [each.verdict.feature for each in found.features] == ["tags length", "temp"]
    assert drifted(found) == ["tags length"]


@pytest.mark.parametrize("empty", [None, []])
def test_lists_that_held_nothing_and_now_do_have_drifted(empty: list[float] | None) -> None:
    nothing = pa.table({"vector": pa.array([empty] * 600, pa.list_(pa.float64()))})
    vectors = pa.table({"vector": [[1.0, 2.0]] * 600})
    assert drifted(compare_tables(rows(nothing), rows(vectors), policy=POLICY)) == ["vector length"]
    assert compare_tables(rows(nothing), rows(nothing), policy=POLICY).alike


@pytest.mark.parametrize("kind", [pa.list_view, pa.large_list_view])
def test_embeddings_are_compared_however_arrow_keeps_them(
    kind: Callable[[pa.DataType], pa.DataType], tmp_path: Path
) -> None:
    """Views of lists were left out: vectors that had all turned round were alike."""
    vectors = np.random.default_rng(0).normal(1.0, size=(600, 2)).tolist()
    before = pa.table({"vector": pa.array(vectors, kind(pa.float64()))})
    turned = pa.table({"vector": [[-x, -y] for x, y in vectors]})
    pq.write_table(before, tmp_path / "before.parquet")
    for reference in (before, tmp_path / "before.parquet"):
        found = compare_tables(LocalRows(open_source(reference)), rows(turned), policy=POLICY)
        assert {"vector direction 1", "vector direction 2"} <= set(drifted(found))
        assert not {"vector length", "vector norm"} & set(drifted(found))
