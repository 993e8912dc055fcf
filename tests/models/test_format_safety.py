"""Files made to harm: nothing in them runs, whatever they are called."""

from __future__ import annotations

import contextlib
import copyreg
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import FunctionTransformer

from raymlops.errors import ModelError, UntrustedError
from raymlops.models import (
    FORMATS,
    Artifact,
    format_named,
    format_of,
    inspect_model,
    load_model,
    map_joblib,
    read_model,
    write_model,
)
from tests.models.fitted import fitted
from tests.models.harmful import nothing, zipped


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def test_the_bomb_would_go_off(marker: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.exists()


SUFFIXES = [suffix for each in FORMATS for suffix in each.suffixes]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pickle_runs_nothing_under_any_name(suffix: str, marker: Path, tmp_path: Path) -> None:
    saved = io.BytesIO()
    torch.save(Bomb(marker), saved)
    compressed = io.BytesIO()
    joblib.dump([Bomb(marker), np.arange(5.0)], compressed, compress=3)
    path = tmp_path / f"model{suffix}"
    (tmp_path / "model.architecture.json").write_text('{"version": "raymlops.layers/1"}')
    for data in (pickle.dumps(Bomb(marker)), saved.getvalue(), compressed.getvalue()):
        path.write_bytes(data)
        with pytest.raises(ModelError):
            load_model(path)
        if not format_of(path).runs_code:
            with pytest.raises(ModelError):
                load_model(path, recorded=lambda _: True)
        with contextlib.suppress(ModelError):
            inspect_model(read_model(path))
        assert not marker.exists()


def test_what_a_pickle_would_import_is_listed(marker: Path) -> None:
    for name, data in (
        ("pickle", pickle.dumps(Bomb(marker))),
        ("pickle", pickle.dumps(Bomb(marker), 0)),
    ):
        assert inspect_model(Artifact(format=name, data=data)).facts.imports == ("posix.mkdir",)
    plain = io.BytesIO()
    joblib.dump([np.arange(5.0), np.array(["a", None], object), Bomb(marker)], plain)
    found = inspect_model(Artifact(format="joblib", data=plain.getvalue())).facts.imports
    assert {"posix.mkdir", "joblib.numpy_pickle.NumpyArrayWrapper"} <= {*found}
    # A name that is put together on the stack, where a search for text would miss it.
    built = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."
    assert inspect_model(Artifact(format="pickle", data=built)).facts.imports == ("posix.system",)
    # An extension code that an earlier unpickling put into the cache for everybody.
    copyreg.add_extension("os", "mkdir", 77)
    try:
        by_code = b"\x80\x02\x82\x4d" + pickle.dumps((str(marker),), 2)[2:-1] + b"R."
        copyreg._extension_cache[77] = os.mkdir  # type: ignore[attr-defined]
        found = inspect_model(Artifact(format="pickle", data=by_code)).facts.imports
        assert found == ("copyreg.extension 77",)
        assert copyreg._extension_cache == {77: os.mkdir}  # type: ignore[attr-defined]
    finally:
        copyreg.remove_extension("os", "mkdir", 77)
    assert not marker.exists()


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_what_a_joblib_file_would_import_is_listed(compress: Any) -> None:
    buffer = io.BytesIO()
    joblib.dump(fitted("tree").model, buffer, compress=compress)
    artifact = Artifact(format="joblib", data=buffer.getvalue())
    assert "sklearn.tree._tree.Tree" in inspect_model(artifact).facts.imports
    predict = format_named("joblib").load(artifact, recorded=lambda _: True)
    np.testing.assert_array_equal(predict(fitted("tree").rows), fitted("tree").predictions)


def test_the_bytes_that_are_checked_are_those_that_are_loaded(marker: Path, tmp_path: Path) -> None:
    source = fitted("scaled ridge")
    good = format_named("pickle").save(source.model, source.rows[:9])
    path = tmp_path / "model.pkl"
    write_model(good, path)

    def exchange(digest: str) -> bool:
        path.write_bytes(pickle.dumps(Bomb(marker)))
        return digest == good.digest

    predict = load_model(path, recorded=exchange)
    assert not marker.exists()
    np.testing.assert_allclose(predict(source.rows), source.predictions)
    with pytest.raises(UntrustedError):
        load_model(path, recorded=exchange)


def test_a_mapped_model_is_a_copy_nobody_can_change(marker: Path, tmp_path: Path) -> None:
    source = fitted("tree")
    path = tmp_path / "model.joblib"
    joblib.dump(source.model, path)
    digest = read_model(path).digest

    def exchange(asked: str) -> bool:
        joblib.dump(Bomb(marker), path)
        return asked == digest

    model = map_joblib(path, recorded=exchange)
    values = model.tree_.__getstate__()["nodes"]
    assert not marker.exists()
    np.testing.assert_array_equal(model.predict_proba(source.rows), source.predictions)
    assert len(values) == model.tree_.node_count
    with pytest.raises(UntrustedError, match="loading it can run any code"):
        map_joblib(path, recorded=nothing)


def test_arrays_are_mapped_read_only(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(fitted("scaled ridge").model, path)
    model = map_joblib(path, recorded=lambda _: True)
    weights = model[-1].coef_
    assert isinstance(weights.base, np.memmap) or isinstance(weights, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        weights[0] = 1.0
    np.testing.assert_allclose(
        model.predict(fitted("scaled ridge").rows.astype(np.float64)),
        fitted("scaled ridge").predictions,
    )
    joblib.dump(fitted("scaled ridge").model, path, compress=3)
    with pytest.raises(ModelError, match="is compressed or no joblib file; it cannot be mapped"):
        map_joblib(path, recorded=lambda _: True)


ZIPPED = ("keras", "torchscript", "torch_export", "skops")


@pytest.mark.parametrize("name", ZIPPED)
@pytest.mark.parametrize("member", ["../../outside", "/tmp/outside", "a/../../b", "C:\\x"])
def test_members_that_lead_outside_are_refused(name: str, member: str) -> None:
    artifact = Artifact(format=name, data=zipped(**{member: b"x"}))
    with pytest.raises(ModelError, match=r"leads out of the archive; refused"):
        format_named(name).load(artifact, recorded=lambda _: True)


@pytest.mark.parametrize("name", ZIPPED)
def test_decompression_bombs_are_refused(name: str, bomb: bytes) -> None:
    with pytest.raises(ModelError, match="refused as a decompression bomb"):
        format_named(name).load(Artifact(format=name, data=bomb), recorded=lambda _: True)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return zipped(**{"config.json": bytes(80 * 1024 * 1024)})


def test_a_pickle_declared_as_a_weight_of_a_pt2_file_runs_nothing(
    marker: Path, tmp_path: Path
) -> None:
    good = format_named("torch_export").save(
        fitted("torch regressor").model, fitted("torch regressor").rows[:9]
    )
    evil = io.BytesIO()
    torch.save(Bomb(marker), evil)
    with zipfile.ZipFile(io.BytesIO(good.data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = next(name for name in members if name.endswith("model_weights_config.json"))
    weights = json.loads(members[config])
    first = next(iter(weights["config"].values()))
    first["use_pickle"] = True
    members[config] = json.dumps(weights).encode()
    (target,) = (name for name in members if name.endswith(f"weights/{first['path_name']}"))
    members[target] = evil.getvalue()
    artifact = Artifact(format="torch_export", data=zipped(**members))
    with pytest.raises(UntrustedError):
        format_named("torch_export").load(artifact, recorded=nothing)
    assert not marker.exists()


def test_types_that_skops_does_not_know_are_named() -> None:
    rows = fitted("scaled ridge").rows
    strange = FunctionTransformer(os.system).fit(rows)
    from skops.io import dumps

    artifact = Artifact(format="skops", data=dumps(strange))
    with pytest.raises(UntrustedError, match=r"posix\.system") as refused:
        format_named("skops").load(artifact, recorded=nothing)
    assert refused.value.digest == artifact.digest
    forest = RandomForestClassifier(3, random_state=0).fit(fitted("tree").rows, [0, 1] * 89)
    artifact = format_named("skops").save(forest, fitted("tree").rows[:9])
    with pytest.raises(UntrustedError, match=r"sklearn\.tree\._tree\.Tree"):
        format_named("skops").load(artifact, recorded=nothing)
    format_named("skops").load(artifact, recorded=lambda digest: digest == artifact.digest)


def test_an_architecture_names_no_code(tmp_path: Path) -> None:
    source = fitted("torch regressor")
    good = format_named("safetensors").save(source.model, source.rows[:9])

    def load(layers: object) -> None:
        document = json.dumps({"version": "raymlops.layers/1", "layers": layers}).encode()
        evil = Artifact(format="safetensors", data=good.data, architecture=document)
        format_named("safetensors").load(evil, recorded=nothing)

    with pytest.raises(ModelError, match="'Module' is no layer that can be built; refused"):
        load([{"type": "Module"}])
    with pytest.raises(ModelError, match="Linear takes no device; refused"):
        load([{"type": "Linear", "arguments": {"device": "cuda"}}])
    with pytest.raises(ModelError, match="Extra inputs are not permitted"):
        load([{"type": "ReLU", "code": "import os"}])
    huge = {"in_features": 10**9, "out_features": 10**9, "bias": True}
    with pytest.raises(ModelError, match=r"(Missing key|Error\(s\) in loading)"):
        load([{"type": "Linear", "arguments": huge}])


def test_a_lone_layer_is_a_model_too() -> None:
    layer, rows = torch.nn.Linear(4, 1), fitted("scaled ridge").rows[:, :4]
    artifact = format_named("safetensors").save(layer, rows)
    facts = inspect_model(artifact).facts
    assert [t.shape for t in facts.inputs + facts.outputs] == [(None, 4), (None, 1)]
    with torch.no_grad():
        wanted = layer(torch.from_numpy(rows.copy())).numpy()[:, 0]
    predict = format_named("safetensors").load(artifact, recorded=nothing)
    np.testing.assert_array_equal(predict(rows), wanted)
    empty = Artifact(
        format="safetensors",
        data=artifact.data,
        architecture=b'{"version": "raymlops.layers/1", "layers": []}',
    )
    with pytest.raises(ModelError, match="declares no layers"):
        inspect_model(empty)


def test_modules_that_are_no_known_layers_are_refused_by_name() -> None:
    class Mine(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), Mine())
    with pytest.raises(ModelError, match=r"Sequential\.1 is a .*Mine; only torch\.nn\.Sequential"):
        format_named("safetensors").save(model, np.ones((2, 4), np.float32))
