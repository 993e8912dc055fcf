from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from sklearn.linear_model import LogisticRegression

from raymlops.cluster import Session
from raymlops.errors import DataError
from raymlops.ledger import Ledger
from raymlops.models import PROBABILITY, Bundle, format_named
from raymlops.serve.offline.predicting import num_tasks, predict_parquet, predict_table
from tests.serve.conftest import MODEL, World, make_world


def table(world: World) -> pa.Table:
    arrays = {name: pa.array(column, from_pandas=True) for name, column in world.columns.items()}
    return pa.table(arrays | {"row": pa.array(range(len(world.columns["radius"])))})


def test_outputs_stand_beside_the_rows(world: World) -> None:
    bundle = world.bundles["1.0.0"]
    found = predict_table(bundle, table(world))
    assert found.column_names == [*table(world).column_names, PROBABILITY, "benign"]
    wanted = bundle.predict(world.columns)
    np.testing.assert_array_equal(found[PROBABILITY].to_numpy(), wanted[PROBABILITY])


def test_of_no_rows_there_are_outputs_without_rows(world: World) -> None:
    """scikit-learn refuses an empty matrix: an hour without a request ended in a traceback."""
    network, rows = world.bundles["1.0.0"], table(world)
    matrix = network.preprocessing.transform(world.columns)
    model = LogisticRegression().fit(matrix, matrix[:, 0] > 0)
    refusing = Bundle.of(
        signature=network.signature,
        preprocessing=network.preprocessing,
        model=format_named("joblib").save(model, matrix[:8]),
        postprocessing=replace(network.postprocessing, reads="probability"),
        profile=network.profile,
        recorded=lambda _: True,
    )
    for bundle in (network, refusing):
        found = predict_table(bundle, rows.slice(0, 0))
        assert found.num_rows == 0
        assert found.schema == predict_table(bundle, rows).schema
        with pytest.raises(DataError, match="column 'radius' is missing"):
            predict_table(bundle, rows.slice(0, 0).drop_columns("radius"))


def test_rows_that_do_not_fit_are_told(world: World) -> None:
    bundle, rows = world.bundles["1.0.0"], table(world)
    with pytest.raises(DataError, match="column 'radius' is missing; the rows have texture"):
        predict_table(bundle, rows.drop_columns("radius"))
    with pytest.raises(DataError, match="column 'radius' has type string, not FP64"):
        predict_table(bundle, rows.drop_columns("radius").append_column("radius", rows["size"]))
    with pytest.raises(DataError, match="have a column 'benign' already"):
        predict_table(bundle, rows.append_column("benign", rows["row"]))
    labelled = rows.append_column("benign", rows["row"])
    found = predict_table(bundle, labelled, prefix="predicted_")
    assert found.column_names[-3:] == ["benign", f"predicted_{PROBABILITY}", "predicted_benign"]


def test_as_many_score_as_cpus_are_free() -> None:
    assert [num_tasks(free) for free in (0.0, 1.5, 3.0, 64.0)] == [1, 1, 3, 4]


@pytest.mark.cluster
def test_a_file_is_predicted_in_its_order_or_not_at_all(
    own_ray_cluster: Session,
    bundles: dict[str, Bundle],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    world = make_world(bundles, tmp_path_factory.mktemp("world"))
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(table(world), source)
    with Ledger(world.ledger_url) as ledger:
        version = ledger.registry.resolve(f"{MODEL}@champion")
    places = {"ledger_url": world.ledger_url, "store_uri": world.store_uri}
    predicted = predict_parquet(version, source, target, **places)
    assert "core_worker.cc" not in capfd.readouterr().err  # Ray warned of how actors were made
    assert predicted.num_rows == 569
    found = pq.read_table(target)
    assert found["row"].to_pylist() == list(range(569))
    wanted = bundles["1.0.0"].predict(world.columns)[PROBABILITY]
    np.testing.assert_array_equal(found[PROBABILITY].to_numpy(), wanted)
    with pytest.raises(DataError, match="exists; nothing is overwritten"):
        predict_parquet(version, source, target, **places)

    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"torn\.parquet cannot be read"):
        predict_parquet(version, tmp_path / "torn.parquet", tmp_path / "never", **places)

    labelled = tmp_path / "labelled.parquet"
    pq.write_table(table(world).append_column("benign", table(world)["row"]), labelled)
    with monkeypatch.context() as patch:
        patch.setattr(ray.data.Dataset, "map_batches", None)  # told before any batch is read
        with pytest.raises(DataError, match=r"a column 'benign' already, .* --prefix, such"):
            predict_parquet(version, labelled, tmp_path / "never", **places)
    beside = predict_parquet(version, labelled, tmp_path / "beside", prefix="predicted_", **places)
    assert {"benign", "predicted_benign"} <= set(pq.read_table(beside.path).schema.names)

    pq.write_table(table(world).slice(0, 0), tmp_path / "none.parquet")
    nothing = predict_parquet(version, tmp_path / "none.parquet", tmp_path / "none", **places)
    assert nothing.num_rows == 0
    assert pq.read_table(nothing.path).schema.names == found.schema.names

    bad = table(world).to_pandas()
    bad.loc[3, "radius"] = -1.0
    pq.write_table(pa.Table.from_pandas(bad), source)
    with pytest.raises(DataError, match="within a batch: field 'radius': row 3 is -1"):
        predict_parquet(version, source, tmp_path / "never", **places)
    assert not (tmp_path / "never").exists()


@pytest.mark.cluster
def test_a_folder_is_predicted_in_the_order_of_its_files(
    own_ray_cluster: Session,
    bundles: dict[str, Bundle],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> None:
    """Ray Data's writer put the chunks of what it was given down as its threads came to them."""
    world = make_world(bundles, tmp_path_factory.mktemp("world"))
    rows, source = table(world), tmp_path / "in"
    source.mkdir()
    for number, start in enumerate(range(0, 569, 100)):
        part = rows.slice(start, 100)
        pq.write_table(part, source / f"part-{number}.parquet", row_group_size=2)
    with Ledger(world.ledger_url) as ledger:
        version = ledger.registry.resolve(f"{MODEL}@champion")
    places = {"ledger_url": world.ledger_url, "store_uri": world.store_uri}
    for target in (tmp_path / "one", tmp_path / "two"):
        told: list[tuple[int, int]] = []

        def tell(done: int, of: int, told: list[tuple[int, int]] = told) -> None:
            told.append((done, of))

        assert predict_parquet(version, source, target, on_rows=tell, **places).num_rows == 569
        assert len(told) == 6  # a part of each file
        assert told == sorted(told)
        assert told[-1] == (569, 569)
        assert pq.read_table(target)["row"].to_pylist() == list(range(569))

    doubled = pa.table([*rows.columns, rows["row"]], names=[*rows.column_names, "radius"])
    pq.write_table(doubled, tmp_path / "doubled.parquet")
    with pytest.raises(DataError, match="has several columns named radius; rename them"):
        predict_parquet(version, tmp_path / "doubled.parquet", tmp_path / "never", **places)


class _Holder:
    """Holds CPUs, as a replica does."""

    @ray.method
    def ready(self) -> bool:
        return True


@pytest.mark.cluster
def test_no_free_cpu_is_needed(
    own_ray_cluster: Session,
    bundles: dict[str, Bundle],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> None:
    """The actor that scored took the last one, and the tasks that read waited for ever."""
    world = make_world(bundles, tmp_path_factory.mktemp("world"))
    pq.write_table(table(world), tmp_path / "in.parquet")
    with Ledger(world.ledger_url) as ledger:
        version = ledger.registry.resolve(f"{MODEL}@champion")
    holder = ray.remote(_Holder).options(num_cpus=4).remote()
    assert ray.get(holder.ready.remote())
    predicted = predict_parquet(
        version,
        tmp_path / "in.parquet",
        tmp_path / "out.parquet",
        ledger_url=world.ledger_url,
        store_uri=world.store_uri,
    )
    ray.kill(holder)
    assert predicted.num_rows == 569
