"""From a dataset version to a bundle: split, train, compare with simple models, export."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from raymlops.cluster.resources import free_cpus, node_cpus, places
from raymlops.data import TableSchema, load_dataset
from raymlops.ledger import Code, Dataset, Ledger, Run
from raymlops.ledger.patience import patiently
from raymlops.models import Bundle, OnnxScorer, Signature, export
from raymlops.storage import Store
from raymlops.train.plan import ParallelPlan
from raymlops.train.tabular.arrays import Arrays
from raymlops.train.tabular.quality import Quality
from raymlops.train.tabular.spec import TabularSpec
from raymlops.train.tabular.split import Split, split_by_time
from raymlops.train.tabular.targets import Answers, target_of
from raymlops.train.tabular.trainer import TabularTrainer
from raymlops.train.workers.room import with_room

NETWORK = "network"

_NUM_PARITY_ROWS = 512

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a run is recorded with besides its data: texts of configuration and environment."""

    code: Code
    config: str
    environment: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """A finished run: its bundle, the quality of the network and of the simple models on the
    validation part, and the time of the newest row it has seen."""

    run: Run
    bundle: Bundle
    qualities: Mapping[str, Quality]
    last_event: datetime

    @property
    def better_simple_model(self) -> str | None:
        """The simple model of the lowest loss, where the network's is no lower."""
        losses = {name: quality.loss for name, quality in self.qualities.items()}
        best = min((name for name in losses if name != NETWORK), key=losses.__getitem__)
        return best if losses[best] <= losses[NETWORK] else None


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Everything that decides what is trained, but the data."""

    model: str
    schema: TableSchema
    spec: TabularSpec
    plan: ParallelPlan
    provenance: Provenance
    cpus_per_worker: float = 1.0

    def run(
        self,
        ledger: Ledger,
        store: Store,
        dataset: Dataset,
        *,
        on_start: Callable[[Run], None] | None = None,
    ) -> Training:
        """Trains on `dataset` and records everything about it as a run, given to `on_start`.

        Beside the network, nested runs record simple models on the same split. Copies for which
        there is no room now are left out; the run's parameters have the plan it was trained by.

        Raises:
            TrainingError: the data cannot be split, or a worker failed for good.
            ParityError: the exported network does not give the trained one's numbers.
        """
        plan = self._plan_with_room()
        run = self.start(
            ledger, dataset, "train", {**self.parameters(self.spec), "plan": plan.to_dict()}
        )
        with ledger.runs.recording(run):
            if on_start is not None:
                on_start(run)
            table = load_dataset(store, dataset, self.schema.columns)
            split = split_by_time(table, self.schema, self.spec.validation_share)
            qualities = {
                name: self._reference(ledger, dataset, run, name, split.arrays)
                for name in split.arrays.target.simple_models
            }
            trainer = TabularTrainer(
                spec=self.spec, plan=plan, cpus_per_worker=self.cpus_per_worker
            )
            network = trainer.fit(split.arrays, ledger_url=ledger.url, store=store, run_id=run.id)
            onnx = export(
                network,
                split.arrays.validation[:_NUM_PARITY_ROWS],
                output=split.arrays.target.output,
            )
            bundle, qualities[NETWORK] = self._bundle(split, onnx)
            figures = qualities[NETWORK].to_dict()
            log = partial(ledger.runs.log, run.id, figures, step=self.spec.epochs)
            patiently(log, waits=f"run {run.id} has trained")
        return Training(
            run=patiently(partial(ledger.runs.get, run.id), waits=f"run {run.id} has finished"),
            bundle=bundle,
            qualities=qualities,
            last_event=split.last_event,
        )

    def parameters(self, spec: TabularSpec) -> dict[str, object]:
        """What a run of this job that trains by `spec` records: the threshold where there is one.

        It stands at its default elsewhere, and would tell of a decision that nothing takes.
        """
        parameters = asdict(spec)
        if not target_of(self.schema).has_threshold:
            del parameters["threshold"]
        return parameters

    def _plan_with_room(self) -> ParallelPlan:
        """Beside replicas, which keep their CPUs for good, a plan for all CPUs would wait for
        ever."""
        free, each = free_cpus(), self.cpus_per_worker
        num_places = sum(places(cpus, each) for cpus in node_cpus())
        plan = with_room(self.plan, num_free=places(free, each), num_places=num_places)
        if plan != self.plan:
            _logger.warning(
                "%d workers (plan.data) need %g CPUs, replicas (serve.num_cpus) and others leave "
                "%g: training with %d, on the same batches",
                self.plan.num_workers,
                self.plan.num_workers * each,
                free,
                plan.num_workers,
            )
        return plan

    def _reference(
        self, ledger: Ledger, dataset: Dataset, parent: Run, name: str, arrays: Arrays
    ) -> Quality:
        run = self.start(ledger, dataset, "reference", {"model": name}, parent_id=parent.id)
        with ledger.runs.recording(run):
            said = arrays.target.simple_models[name](arrays)
            quality = arrays.target.judge(said, arrays.validation_labels)
            ledger.runs.log(run.id, quality.to_dict())
        return quality

    def start(
        self,
        ledger: Ledger,
        dataset: Dataset,
        kind: str,
        params: Mapping[str, object],
        parent_id: str | None = None,
    ) -> Run:
        """A new run of this job, of whatever kind."""
        return ledger.runs.start(
            kind=kind,
            model=self.model,
            params=params,
            code=self.provenance.code,
            config=self.provenance.config,
            environment=self.provenance.environment,
            inputs={"train": dataset},
            parent_id=parent_id,
        )

    def _bundle(self, split: Split, onnx: bytes) -> tuple[Bundle, Quality]:
        """The bundle of the exported network, and its quality on the validation part."""
        arrays, scorer, threshold = split.arrays, OnnxScorer(onnx), self.spec.threshold
        target = arrays.target
        postprocessing = target.postprocessing(self.schema.target, threshold=threshold)

        def say(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
            return postprocessing.apply(scorer(matrix))[postprocessing.score]

        unseen = say(arrays.validation)
        answers = Answers(
            said=np.concatenate([say(arrays.train), unseen]),
            unseen=unseen,
            quality=target.judge(unseen, arrays.validation_labels),
            threshold=threshold,
        )
        bundle = Bundle.of(
            signature=Signature.of(self.schema, postprocessing.outputs),
            preprocessing=split.preprocessing,
            model=onnx,
            postprocessing=postprocessing,
            profile=target.profile(split, answers),
        )
        return bundle.with_answers(), answers.quality
