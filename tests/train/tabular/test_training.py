"""Training on a real Ray cluster: workers, ledger, bundle, search."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_wine
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from raymlops.data import Feature, TableSchema, add_dataset, read_columns
from raymlops.errors import TrainingError
from raymlops.ledger import Code, Dataset, Ledger, Run
from raymlops.models import PROBABILITY, export
from raymlops.storage import Store
from raymlops.train import ClassQuality, ParallelPlan, TabularSpec, judge
from raymlops.train.tabular.split import split_by_time
from raymlops.train.tabular.trainer import Epoch, fit_alone
from raymlops.train.tabular.training import NETWORK, Provenance, TrainingJob
from raymlops.tune import TuneSpec
from raymlops.tune.search import tune
from raymlops.tune.searcher import SuggestionSearcher

pytestmark = pytest.mark.cluster

SPEC = TabularSpec(hidden=(8,), dropout=0.0, epochs=3, batch_size=50, learning_rate=1e-2)


@pytest.fixture
def job(tumour_schema: TableSchema) -> TrainingJob:
    return TrainingJob(
        model="tumours",
        schema=tumour_schema,
        spec=SPEC,
        plan=ParallelPlan(data=2),
        provenance=Provenance(
            code=Code(commit="c" * 40, dirty_digest=None), config="{}", environment="python"
        ),
    )


@pytest.fixture
def data(ledger: Ledger, store: Store, tumours: pa.Table, tumour_schema: TableSchema) -> Dataset:
    return add_dataset(ledger, store, tumours, tumour_schema)


CULTIVARS = ("barolo", "grignolino", "barbera")


@pytest.fixture
def wines() -> pa.Table:
    """scikit-learn's wines as a table of events, one an hour, in an order that has all kinds."""
    loaded = load_wine(as_frame=True)
    frame = loaded.frame.sample(frac=1.0, random_state=0)[["alcohol", "flavanoids", "target"]]
    times = pd.date_range("2024-01-01", periods=len(frame), freq="h", tz="UTC")
    kinds = [CULTIVARS[each] for each in frame["target"]]
    frame = frame.assign(seen_at=times.as_unit("us"), target=kinds)
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()


@pytest.mark.usefixtures("ray_cluster")
def test_a_network_learns_to_tell_classes_apart(
    job: TrainingJob, ledger: Ledger, store: Store, wines: pa.Table
) -> None:
    schema = TableSchema(
        dataset="wines",
        target="target",
        event_time="seen_at",
        classes=CULTIVARS,
        features=(
            Feature(name="alcohol", kind="number"),
            Feature(name="flavanoids", kind="number"),
        ),
    )
    job = replace(job, model="wines", schema=schema, spec=replace(SPEC, epochs=20))
    training = job.run(ledger, store, add_dataset(ledger, store, wines, schema))

    arrays = split_by_time(wines, schema, SPEC.validation_share).arrays
    alone = fit_alone(arrays, job.spec, on_epoch=lambda _: None)
    with torch.no_grad():
        logits = alone(torch.from_numpy(arrays.validation))
        said = torch.softmax(logits.double(), dim=1).numpy()
    columns = read_columns(wines.slice(len(arrays.train)), schema.features)
    found = training.bundle.predict(columns)
    np.testing.assert_allclose(found["probabilities"], said, atol=1e-4)
    came = wines["target"].to_numpy()[len(arrays.train) :]
    quality = training.qualities[NETWORK]
    assert isinstance(quality, ClassQuality)
    assert quality.accuracy == accuracy_score(came, found["target"])
    assert quality.macro_f1 == pytest.approx(f1_score(came, found["target"], average="macro"))
    assert quality.accuracy > 0.75
    order = [CULTIVARS.index(each) for each in came]
    assert quality.log_loss == pytest.approx(log_loss(order, said), abs=1e-4)
    assert quality.roc_auc == pytest.approx(roc_auc_score(order, said, multi_class="ovr"))
    assert training.qualities["logistic regression"].log_loss < 0.7
    assert training.qualities["constant"].log_loss == pytest.approx(1.09, abs=0.03)
    assert ledger.runs.last_metrics(training.run.id)["macro_f1"] == quality.macro_f1
    assert training.bundle.signature.classes == CULTIVARS
    # A network that nobody should serve was registered without a word about that.
    assert training.better_simple_model == "logistic regression"
    best = replace(
        training, qualities={**training.qualities, NETWORK: replace(quality, log_loss=0.1)}
    )
    assert best.better_simple_model is None


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_learn_what_one_process_learns_and_it_ends_in_a_bundle(
    job: TrainingJob,
    ledger: Ledger,
    store: Store,
    data: Dataset,
    tumours: pa.Table,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exported: list[torch.nn.Module] = []

    def export_and_keep(
        network: torch.nn.Module, rows: NDArray[np.float32], *, output: str
    ) -> bytes:
        exported.append(network)
        return export(network, rows, output=output)

    monkeypatch.setattr("raymlops.train.tabular.training.export", export_and_keep)
    training = job.run(ledger, store, data)

    # 455 training rows in batches of 50 over two workers: the last batch is short and uneven.
    arrays = split_by_time(tumours, job.schema, SPEC.validation_share).arrays
    epochs: list[Epoch] = []
    alone = fit_alone(arrays, SPEC, on_epoch=epochs.append)
    for ours, reference in zip(exported[0].parameters(), alone.parameters(), strict=True):
        assert torch.allclose(ours, reference, atol=1e-5)
    for name in ("train_loss", "validation_loss"):
        logged = [metric.value for metric in ledger.runs.metrics(training.run.id, name)]
        assert logged == pytest.approx([getattr(epoch, name) for epoch in epochs], abs=1e-5)
    # Ray Train once left a handler behind that swallowed every later Ctrl-C.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    assert training.run.status == "finished"
    assert training.run.params["plan"] == {"data": 2}
    assert ledger.runs.inputs(training.run.id) == {"train": ("tumours", 1)}
    references = ledger.runs.list(parent_id=training.run.id)
    assert [run.params["model"] for run in references] == ["constant", "logistic regression"]
    assert training.last_event == tumours["seen_at"][-1].as_py()

    columns = read_columns(tumours.slice(455), job.schema.features)
    labels = tumours["target"].to_numpy()[455:]
    served = judge(training.bundle.predict(columns)[PROBABILITY], labels)
    assert served == training.qualities[NETWORK]
    assert ledger.runs.last_metrics(training.run.id)["log_loss"] == served.log_loss
    assert training.bundle.profile.loss == served.log_loss
    assert training.qualities[NETWORK].roc_auc > training.qualities["constant"].roc_auc
    assert sum(training.bundle.profile.reference[training.bundle.profile.cells["size"]]) == 569


@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_fails_fails_the_run_with_its_reason(
    job: TrainingJob, ledger: Ledger, store: Store, data: Dataset
) -> None:
    hopeless = replace(job, spec=replace(SPEC, learning_rate=1e30), plan=ParallelPlan(data=1))
    with pytest.raises(TrainingError, match="the loss is nan at step"):
        hopeless.run(ledger, store, data)
    (run,) = [run for run in ledger.runs.list(model="tumours") if run.kind == "train"]
    assert run.status == "failed"
    assert run.error is not None
    assert "the loss is nan at step" in run.error


@pytest.mark.usefixtures("ray_cluster")
def test_a_plan_too_large_for_the_cluster_is_refused_at_once(
    job: TrainingJob, ledger: Ledger, store: Store, data: Dataset
) -> None:
    large = replace(job, plan=ParallelPlan(data=9))
    with pytest.raises(TrainingError, match=r"it has 9 workers \(data 9\), there is room for 4"):
        large.run(ledger, store, data)


@pytest.mark.usefixtures("ray_cluster")
def test_copies_for_which_replicas_leave_no_room_are_left_out(
    job: TrainingJob, ledger: Ledger, store: Store, data: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    """On a machine of two cores a retraining with two workers waited for ever for the core that
    the replica keeps."""
    held = [ray.remote(Held).options(num_cpus=1).remote() for _ in range(3)]
    ray.get([each.answer.remote() for each in held])
    training = replace(job, plan=ParallelPlan(data=2)).run(ledger, store, data)
    for each in held:
        ray.kill(each)
    assert ledger.runs.get(training.run.id).params["plan"] == ParallelPlan(data=1).to_dict()
    assert "replicas (serve.num_cpus) and others leave 1: training with 1" in caplog.text


class Held:
    """What keeps a CPU as a replica does."""

    @ray.method
    def answer(self) -> None: ...


@pytest.mark.usefixtures("ray_cluster")
def test_a_search_whose_trials_fit_on_no_node_is_refused_at_once(
    job: TrainingJob, ledger: Ledger, store: Store, data: Dataset
) -> None:
    with pytest.raises(TrainingError, match=r"a trial needs 64 CPUs \(tune.cpus_per_trial\)"):
        tune(job, TuneSpec(cpus_per_trial=64.0), ledger, store, data)
    assert ledger.runs.list(model="tumours", kind="tune") == []


@pytest.mark.usefixtures("ray_cluster")
def test_a_search_records_its_trials_and_keeps_the_best(
    job: TrainingJob,
    ledger: Ledger,
    store: Store,
    data: Dataset,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for library in ("ray.tune.search", "optuna"):  # neither hands what it logs up to the root
        monkeypatch.setattr(logging.getLogger(library), "handlers", [caplog.handler])
    space = TuneSpec(
        num_trials=2, max_concurrent=2, hidden=((4,), (8,)), learning_rate=(1e-3, 1e-1)
    )
    begun: list[Run] = []
    found = tune(job, space, ledger, store, data, on_start=begun.append)
    assert capfd.readouterr().out == ""  # `raymlops tune --json` was not JSON
    assert caplog.messages == []  # a warning about how we call Ray Tune, a study that begins
    assert found.run.status == "finished"
    # Ray Tune wrote to the store all the time, and waited for one that was away.
    assert not (Path(store.uri) / "tuning").exists()
    assert [run.id for run in begun] == [found.run.id]
    # Nothing was to be seen of a search until its end.
    assert ledger.runs.last_metrics(found.run.id) == {
        "num_steps": 2, "num_ended": 2, "best_validation_loss": found.validation_loss,
    }  # fmt: skip

    trials = ledger.runs.list(parent_id=found.run.id)
    assert [run.status for run in trials] == ["finished"] * 2
    losses = {run.id: ledger.runs.last_metrics(run.id)["validation_loss"] for run in trials}
    assert found.best_run.id == min(losses, key=lambda run_id: losses[run_id])
    assert found.validation_loss == losses[found.best_run.id]
    assert found.best_run.params["learning_rate"] == found.best.learning_rate
    assert tuple(found.best_run.params["hidden"]) == found.best.hidden
    assert found.best.epochs == SPEC.epochs
    (decision,) = ledger.decisions.list(model="tumours", kind="tune")
    assert decision.evidence["best"] == {
        **dataclasses.asdict(found.best), "hidden": list(found.best.hidden),
    }  # fmt: skip
    assert np.isfinite(found.validation_loss)
    # Ray Tune once left a handler behind that swallowed every later Ctrl-C.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ray_cluster")
def test_a_search_whose_trials_all_fail_tells_what_the_first_said(
    job: TrainingJob,
    ledger: Ledger,
    store: Store,
    data: Dataset,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for library in ("ray", "ray.tune"):
        monkeypatch.setattr(logging.getLogger(library), "handlers", [caplog.handler])
    space = TuneSpec(num_trials=1, hidden=((4,),), learning_rate=(1e30, 1e30))
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(TrainingError, match=r"^all 1 trials failed: the loss is nan at step 2"),
    ):
        tune(job, space, ledger, store, data)
    # Ray Tune printed its whole traceback, and a list of trials under names of its own.
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("trial 0 (hidden [4], dropout ")
    assert "learning_rate 1e+30, weight_decay " in told
    assert "failed: the loss is nan at step 2" in told
    file = Path(told.partition("; its traceback will be in ")[2])
    assert list(file.parents[1].rglob("*.*")) == [file]  # the rest nobody reads again
    traceback = file.read_text()
    assert "in fit_alone" in traceback
    assert "TrainingError: the loss is nan" in traceback
    assert ledger.decisions.list(model="tumours", kind="tune") == []


@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_whose_worker_is_killed_is_told_as_such(
    job: TrainingJob, ledger: Ledger, store: Store, data: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot say so itself: its run stayed "lost", whatever the search said of it."""
    long = replace(job, spec=replace(SPEC, epochs=10_000))

    def kill_its_worker(search: Run) -> None:
        while not (trials := ledger.runs.list(parent_id=search.id)):
            time.sleep(0.05)
        assert trials[0].owner is not None
        os.kill(trials[0].owner.pid, signal.SIGKILL)

    def kill_it_soon(search: Run) -> None:
        threading.Thread(target=kill_its_worker, args=(search,)).start()

    with (
        caplog.at_level(logging.WARNING, logger="raymlops"),
        pytest.raises(TrainingError, match=r"^all 1 trials failed: its worker died: it was kil"),
    ):
        tune(long, TuneSpec(num_trials=1), ledger, store, data, on_start=kill_it_soon)
    (told,) = [each.getMessage() for each in caplog.records if each.name.startswith("raymlops")]
    assert "failed: its worker died: it was killed, or" in told
    assert "died unexpectedly" in Path(told.partition("; its traceback will be in ")[2]).read_text()
    (trial,) = ledger.runs.list(kind="trial")
    assert trial.status == "failed"
    assert str(trial.error).startswith("TrainingError: its worker died")


@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupted_search_has_found_nothing(
    job: TrainingJob, ledger: Ledger, store: Store, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Tune's own handler took Ctrl-C for the end of a search, whose best trial was kept."""
    suggest = SuggestionSearcher.suggest

    def suggest_and_interrupt(search: SuggestionSearcher, trial_id: str) -> object:
        signal.raise_signal(signal.SIGINT)
        return suggest(search, trial_id)

    monkeypatch.setattr(SuggestionSearcher, "suggest", suggest_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        tune(job, TuneSpec(num_trials=1), ledger, store, data)
    (search,) = ledger.runs.list(model="tumours", kind="tune")
    assert search.status == "interrupted"
    assert ledger.decisions.list(model="tumours", kind="tune") == []
