"""Keras files made to harm: nothing in them runs, reads other files or takes all memory."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from raymlops.errors import ModelError
from raymlops.models import (
    Artifact,
    format_named,
    load_model,
)
from tests.models.fitted import fitted
from tests.models.harmful import nothing, zipped


def test_keras_layers_that_run_code_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

        model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2)])
        model.save(tmp_path / "lambda.keras")
    rows = np.ones((2, 4), np.float32)
    for name in ("keras", "keras_weights"):
        with pytest.raises(ModelError, match="keras: Lambda can run code or read files"):
            format_named(name).save(model, rows)
    with pytest.raises(ModelError, match="keras: Lambda can run code"):
        load_model(tmp_path / "lambda.keras", recorded=lambda _: True)


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        ({"module": "os", "class_name": "system"}, r"os\.system is no part of Keras"),
        ({"module": "builtins", "class_name": "eval"}, r"builtins\.eval is no part of Keras"),
        ({"module": "keras", "class_name": "utils"}, r"keras\.utils is no part of Keras"),
        ({"class_name": "__typespec__"}, "keras: __typespec__ is no part of Keras"),
        ({"class_name": "Dense"}, "keras: Dense is no part of Keras that is known"),
        ({"module": "builtins", "class_name": "function"}, "function can run code"),
        ({"module": "keras.layers", "class_name": "TFSMLayer"}, "TFSMLayer can run code"),
        ({"module": "keras.src.saving", "class_name": "x"}, "is no part of Keras"),
        ({"module": "keras.src.ops.core", "class_name": "Map"}, "Map is no part of Keras"),
        ({"module": "keras.src.ops.numpy", "class_name": "np"}, "np is no part of Keras"),
        ({"module": "keras.src.ops.numpy", "class_name": "KerasTensor"}, "is no part of Keras"),
        ({"module": "keras.src.ops", "class_name": "Add"}, "ops.Add is no part of Keras"),
        ({"module": "keras.layers", "class_name": "Dense", "registered_name": "mine>Dense"},
         "mine>Dense is registered outside of Keras"),
    ],
)  # fmt: skip
def test_keras_architectures_that_name_other_code_are_refused(
    layer: dict[str, Any], problem: str
) -> None:
    good = format_named("keras_weights").save(
        fitted("keras regressor").model, fitted("keras regressor").rows[:9]
    )
    assert good.architecture is not None
    config = json.loads(good.architecture)
    config["config"]["layers"].append({**layer, "config": {}})
    evil = Artifact(
        format="keras_weights", data=good.data, architecture=json.dumps(config).encode()
    )
    with pytest.raises(ModelError, match=problem):
        format_named("keras_weights").load(evil, recorded=nothing)


def elsewhere(file: Any, name: str, other: Path) -> None:
    file.create_dataset(name, (1,), "f4", external=[(str(other), 0, 4)])


def linked(file: Any, name: str, other: Path) -> None:
    file[name] = h5py.ExternalLink(str(other), "/values")


def virtual(file: Any, name: str, other: Path) -> None:
    layout = h5py.VirtualLayout((1,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "values", (1,))
    file.create_virtual_dataset(name, layout)


def bloated(file: Any, name: str, _other: Path) -> None:
    file.create_dataset(name, (2**40,), "f4", chunks=(2**20,), compression="gzip")


@pytest.mark.parametrize(
    ("hide", "problem"),
    [
        (elsewhere, "lie in another file; refused"),
        (linked, "lie in another file; refused"),
        (virtual, "lie in another file; refused"),
        (bloated, "refused as a decompression bomb"),
    ],
)
def test_keras_weights_that_lie_in_another_file_are_refused(
    hide: Callable[[Any, str, Path], None], problem: str, tmp_path: Path
) -> None:
    # Keras before 3.13 read them: somebody else's file came back as weights.
    source = fitted("keras regressor")
    good = format_named("keras_weights").save(source.model, source.rows[:9])
    path = tmp_path / "evil.h5"
    path.write_bytes(good.data)
    with h5py.File(path, "r+") as file:
        hide(file, "layers/more", tmp_path / "secret")
    evil = Artifact(format="keras_weights", data=path.read_bytes(), architecture=good.architecture)
    with pytest.raises(ModelError, match=problem):
        format_named("keras_weights").load(evil, recorded=nothing)
    whole = format_named("keras").save(source.model, source.rows[:9])
    with zipfile.ZipFile(io.BytesIO(whole.data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = evil.data
    with pytest.raises(ModelError, match=problem):
        format_named("keras").load(
            Artifact(format="keras", data=zipped(**members)), recorded=nothing
        )


def test_a_keras_architecture_makes_no_more_weights_than_the_file_could_fill() -> None:
    """Two kilobytes that declared a wide layer took all memory before they were refused."""
    source = fitted("keras regressor")
    wide = re.compile(rb'"units": 16\b|\[null, 16\]')

    def widened(text: bytes) -> bytes:
        return wide.sub(lambda found: found[0].replace(b"16", b"%d" % 10**12), text)

    apart = format_named("keras_weights").save(source.model, source.rows[:9])
    assert apart.architecture is not None
    assert wide.search(apart.architecture)
    whole = format_named("keras").save(source.model, source.rows[:9])
    with zipfile.ZipFile(io.BytesIO(whole.data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = widened(members["config.json"])
    for evil in (
        replace(apart, architecture=widened(apart.architecture)),
        Artifact(format="keras", data=zipped(**members)),
    ):
        with pytest.raises(ModelError, match="declares more than 16,777,216 weights, and the file"):
            format_named(evil.format).load(evil, recorded=nothing)
    assert format_named("keras").load(whole, recorded=nothing)(source.rows[:2]).shape == (2,)
