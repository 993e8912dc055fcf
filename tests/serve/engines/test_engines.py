"""The contract of every engine, on a real model in every format."""

from __future__ import annotations

import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops.errors import ConfigError, ModelError, UntrustedError
from raymlops.models import FORMATS, Artifact, format_named
from raymlops.serve.engines import ENGINES, EngineSettings, check_cpus, engine_for, pin
from tests.models.fitted import fitted

MODELS = {
    "onnx": "torch classifier", "pickle": "scaled logistic", "joblib": "scaled logistic",
    "skops": "scaled logistic", "pmml": "scaled logistic", "torchscript": "torch classifier",
    "torch_export": "torch classifier", "safetensors": "torch classifier",
    "keras": "keras classifier", "keras_weights": "keras classifier", "python": "python rule",
}  # fmt: skip
# Whatever the settings, the answers are the same.
SETTINGS = {
    "default": EngineSettings(),
    "two threads": EngineSettings(num_threads=2, num_instances=2),
    "on the CPU": EngineSettings(device="cpu"),
}
ONNX = [
    EngineSettings(graph_level="none"), EngineSettings(graph_level="basic"),
    EngineSettings(graph_level="extended"), EngineSettings(io_binding=True),
    EngineSettings(io_binding=True, num_threads=2, cpus=(0, 1)),
]  # fmt: skip


def everything(_digest: str) -> bool:
    return True


@cache
def saved(format: str) -> Artifact:
    source = fitted(MODELS[format])
    return format_named(format).save(source.model, source.rows[:200])


def answers_right(format: str, settings: EngineSettings) -> None:
    source, artifact = fitted(MODELS[format]), saved(format)
    predict = engine_for(format, settings).load(artifact, settings, recorded=everything)
    slack = max(format_named(format).tolerance, 1e-5)
    for rows in (source.rows[:1], source.rows[:7], source.rows):
        np.testing.assert_allclose(
            predict(rows), source.predictions[: len(rows)], rtol=slack, atol=slack
        )


def test_every_format_has_one_engine() -> None:
    names = [format for engine in ENGINES for format in engine.formats]
    assert sorted(names) == sorted(each.name for each in FORMATS) == sorted(MODELS)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("format", MODELS)
def test_an_engine_answers_like_the_model_it_was_made_from(format: str, settings: str) -> None:
    answers_right(format, SETTINGS[settings])


def test_a_replica_that_is_killed_leaves_no_files_of_its_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    answers_right("keras", EngineSettings())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings", ONNX, ids=str)
def test_onnx_answers_the_same_however_it_is_run(settings: EngineSettings) -> None:
    answers_right("onnx", settings)


def test_a_compiled_module_answers_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without code generation, which takes half a minute and is torch's own affair."""
    import torch

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    answers_right("safetensors", EngineSettings(compile=True))


@pytest.mark.parametrize("format", MODELS)
def test_an_engine_may_be_asked_by_several_threads(format: str) -> None:
    source, settings = fitted(MODELS[format]), EngineSettings(num_instances=2)
    predict = engine_for(format, settings).load(saved(format), settings, recorded=everything)
    parts = [slice(start, start + 5) for start in range(0, 100, 5)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda part: predict(source.rows[part]), parts))
    np.testing.assert_allclose(
        np.concatenate(answers), source.predictions[:100], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("format", MODELS)
def test_no_engine_loads_code_that_was_not_recorded(format: str) -> None:
    if not format_named(format).runs_code:
        return
    engine = engine_for(format, EngineSettings())
    with pytest.raises(UntrustedError):
        engine.load(saved(format), EngineSettings(), recorded=lambda _: False)


@pytest.mark.parametrize(
    ("format", "settings", "reason"),
    [
        ("onnx", {"engine": "torch"}, "engine is torch, but the bundle is onnx, which onnx runs"),
        ("pickle", {"io_binding": True}, "io_binding is a setting of onnx; pickle is run by skl"),
        ("keras", {"graph_level": "none"}, "graph_level is a setting of onnx"),
        ("onnx", {"compile": True}, "compile is a setting of torch"),
        ("nonesuch", {}, "no engine runs nonesuch; there are onnx"),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused(
    format: str, settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        engine_for(format, EngineSettings(**settings))


@pytest.mark.parametrize("format", ["onnx", "safetensors", "keras"])
def test_a_gpu_that_is_not_there_is_refused(format: str) -> None:
    settings = EngineSettings(device="cuda")
    with pytest.raises(ModelError, match=r"device is cuda, .* device to cpu"):
        engine_for(format, settings).load(saved(format), settings, recorded=everything)


def test_only_modules_are_compiled() -> None:
    settings = EngineSettings(compile=True)
    with pytest.raises(ModelError, match=r"torch\.compile takes modules, the bundle is torchscri"):
        engine_for("torchscript", settings).load(
            saved("torchscript"), settings, recorded=everything
        )


def test_instances_have_processors_of_their_own() -> None:
    settings = EngineSettings(num_instances=2, num_threads=2, cpus=(0, 1, 2, 3))
    assert (settings.cpus_of(0), settings.cpus_of(1)) == ((0, 1), (2, 3))
    with pytest.raises(ValueError, match="cpus names 3 processors, 2 instances of 2 threads need"):
        EngineSettings(num_instances=2, num_threads=2, cpus=(0, 1, 2))
    with pytest.raises(ConfigError, match=r"cpus names \[4095\], this process may run on"):
        check_cpus(EngineSettings(cpus=(4095,)))


def test_a_thread_is_pinned_and_others_are_not() -> None:
    mine = sorted(os.sched_getaffinity(0))
    found: list[set[int]] = []

    def work() -> None:
        pin(EngineSettings(cpus=(mine[-1],)), 0)
        found.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [{mine[-1]}]
    assert sorted(os.sched_getaffinity(0)) == mine
