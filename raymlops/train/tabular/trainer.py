"""The network of a table, trained by the trainer of all models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raymlops.ledger.patience import patiently
from raymlops.storage import Store
from raymlops.train.plan import ParallelPlan
from raymlops.train.spec import OptimizerSpec, TrainSpec
from raymlops.train.spec.factory import Factory
from raymlops.train.tabular.arrays import Arrays, shared
from raymlops.train.tabular.spec import TabularSpec
from raymlops.train.trainer import Trainer

if TYPE_CHECKING:
    from raymlops.train.tabular.network import Perceptron


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Mean loss a row after epoch `number`, counted from 1."""

    number: int
    train_loss: float
    validation_loss: float


@dataclass(frozen=True, kw_only=True)
class TabularTrainer:
    """Trains the network of `spec` under `plan`."""

    spec: TabularSpec
    plan: ParallelPlan
    cpus_per_worker: float = 1.0

    def fit(self, arrays: Arrays, *, ledger_url: str, store: Store, run_id: str) -> Perceptron:
        """The trained network; losses reach the ledger while training goes on.

        Its weights stay beside the blobs of `store`, which every node must reach. Ray must be
        connected; see `raymlops.cluster.connect`.

        Raises:
            TrainingError: the cluster is too small, or a worker failed for good; says why.
            ClusterError: it has no room for the rows.
        """
        data = Factory(
            call="raymlops.train.tabular.arrays:fetch", arguments={"arrays": shared(arrays)}
        )
        trainer = Trainer(
            train_spec(self.spec, arrays, data),
            plan=self.plan,
            cpus_per_worker=self.cpus_per_worker,
        )
        folder = store.below(f"training/{run_id}")
        result = trainer.fit_run(run_id, folder=folder, ledger_url=ledger_url)
        return _finished(patiently(result.model, waits=f"run {run_id} has trained"), arrays)


def fit_alone(
    arrays: Arrays, spec: TabularSpec, *, on_epoch: Callable[[Epoch], None]
) -> Perceptron:
    """The network trained in this process: the reference every plan is held against."""
    from raymlops.train.loop.loop import Loop
    from raymlops.train.plan.seat import Seat
    from raymlops.train.spec.sources import Sources

    number = 0

    def log(values: Mapping[str, float], step: int) -> None:
        nonlocal number
        if "train_loss" in values:
            number += 1
            on_epoch(
                Epoch(
                    number=number,
                    train_loss=values["train_loss"],
                    validation_loss=values["validation_loss"],
                )
            )

    # The data are given, so the factory is never called.
    data = Factory(call="raymlops.train.tabular.arrays:fetch")
    described = train_spec(spec, arrays, data)
    train, validation = arrays.sources()
    loop = Loop(described, Seat(), sources=Sources(train=train, validation=validation), log=log)
    loop.run()
    return _finished(loop.parts[0], arrays)


def train_spec(spec: TabularSpec, arrays: Arrays, data: Factory) -> TrainSpec:
    """The training of a network that reads rows such as those of `arrays`."""
    target = arrays.target
    several = {"num_classes": target.num_classes} if target.num_classes else {}
    return TrainSpec(
        model=Factory(
            call="raymlops.train.tabular.network:Perceptron",
            arguments={
                "width": arrays.width,
                "hidden": spec.hidden,
                "dropout": spec.dropout,
                **several,
            },
        ),
        data=data,
        loss=target.loss,
        optimizer=OptimizerSpec(
            learning_rate=spec.learning_rate, arguments={"weight_decay": spec.weight_decay}
        ),
        batch_size=spec.batch_size,
        epochs=spec.epochs,
        seed=spec.seed,
    )


def _finished(model: Any, arrays: Arrays) -> Perceptron:
    from raymlops.train.tabular.network import Perceptron

    assert isinstance(model, Perceptron), "that is what the spec makes"
    return arrays.target.finished(model, arrays)
