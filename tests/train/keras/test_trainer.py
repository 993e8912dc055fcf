"""Keras models through the one call, on a real Ray cluster, to the registry."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from raymlops.cluster import Session
from raymlops.errors import PlanError
from raymlops.ledger import Ledger
from raymlops.models import PROBABILITY, Bundle
from raymlops.storage import Store
from raymlops.train import CheckpointPolicy, Factory, ParallelPlan, Trainer
from raymlops.train.keras import KerasSpec
from raymlops.train.keras.backend import KerasBackend
from tests.train.keras import training, tumours
from tests.train.keras.host import Crew, Host
from tests.train.keras.specs import MLP

pytestmark = pytest.mark.cluster

TUMOURS = KerasSpec(
    model=Factory(call="tests.train.keras.tumours:network"),
    data=Factory(call="tests.train.keras.tumours:rows"),
    name="tumours",
    loss="binary_cross_entropy",
    batch_size=50,  # 11 full batches, then 19 rows
    epochs=2,
    max_steps=20,
    checkpoints=CheckpointPolicy(every_steps=4, asynchronous=False),  # there when a worker dies
)


@pytest.mark.slow
@pytest.mark.endurance
def test_a_run_ends_bit_equal_though_killed_and_resumed_and_registers(
    tmp_path: Path, ray_cluster: Session, store: Store, tensorflow_host: Host
) -> None:
    crew = Crew(num_workers=2, environment=KerasBackend(TUMOURS).environment)
    (undisturbed,), _ = tensorflow_host.run(crew, training.train, TUMOURS)
    witness, home = tmp_path / "witness", tmp_path / "home"
    arguments = {"num_reads": 7, "witness": str(witness)}
    mortal = Factory(call="tests.train.keras.tumours:mortal_rows", arguments=arguments)
    spec = replace(TUMOURS, data=mortal)
    result = Trainer(spec, plan=ParallelPlan(data=2), home=home).fit()

    assert witness.exists()
    assert (result.steps, result.ended) == (20, None)
    pairs = zip(result.weights().items(), undisturbed.weights.items(), strict=True)
    for (name, array), (expected_name, expected) in pairs:
        assert name == expected_name
        np.testing.assert_array_equal(array, expected)

    bundle = tumours.bundle_of(result.model())
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        run = ledger.runs.get(result.run_id)
        assert (run.status, run.model, run.params["plan"]) == ("finished", "tumours", {"data": 2})
        # Each once, though two were done twice.
        logged = ledger.runs.metrics(run.id, "loss")
        assert [(each.step, each.value) for each in logged] == list(
            enumerate(undisturbed.losses, start=1)
        )
        assert {"step_s", "rows_per_s", "train_loss"} <= set(ledger.runs.last_metrics(run.id))
        version = ledger.registry.register(
            "tumours",
            bundle=bundle.save(store),
            signature=json.dumps(bundle.signature.to_dict()),
            run_id=run.id,
        )
        registered = Bundle.of_version(store, ledger.registry.resolve(f"tumours@{version.version}"))
    scores = registered.predict(tumours.columns())[PROBABILITY]
    matrix, target = tumours.rows().columns
    logits = np.asarray(result.model()(matrix, training=False))[:, 0]
    np.testing.assert_allclose(scores, expit(logits), atol=1e-6)
    assert np.mean((scores > 0.5) == target) > 0.5

    # And resumed, on one worker: there is nothing left to do.
    again = Trainer.resume(result.run_id, plan=ParallelPlan(), home=home)
    assert again.steps == 20
    for name, array in result.weights().items():
        np.testing.assert_array_equal(again.weights()[name], array)


def test_a_plan_that_cuts_the_model_starts_nothing(
    tmp_path: Path, ray_cluster: Session, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(PlanError) as caught:
        Trainer(MLP, plan=ParallelPlan(shard=2), home=tmp_path).fit()
    assert caught.value.nearest == ("data=2", "data=3", "data=4")
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        assert list(ledger.runs.list()) == []
