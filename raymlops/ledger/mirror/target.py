"""An MLflow store as a mirror needs it: every call may be repeated and changes nothing then."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from raymlops.errors import MirrorError
from raymlops.ledger.mirror.names import safe_model

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric

ID_TAG = "raymlops.id"
VERSION_TAG = "raymlops.version"

MAX_METRICS = 1000
_MAX_PARAMS_OR_TAGS = 100
_PROBE_TIMEOUT_S = 5.0

_logger = logging.getLogger(__name__)


class RunGoneError(Exception):
    """Somebody deleted the run in MLflow, or the experiment that it would be in."""


class Target:
    """The MLflow store at `url`: sqlite, postgresql or a tracking server's http address.

    `artifacts` is the folder or URI for files of new experiments; None leaves that to a server.
    Nothing is reached before `check`.

    Raises:
        MirrorError: `url` names no kind of store MLflow has.
    """

    def __init__(self, url: str, artifacts: str | None) -> None:
        self._url = url
        self._artifacts = artifacts
        self._is_server = url.startswith(("http://", "https://"))
        if not self._is_server and not url.startswith(("sqlite://", "postgresql")):
            raise MirrorError(
                f"mlflow url '{shown(url)}' is no MLflow store: give sqlite:///FILE, "
                "postgresql://... or the http:// address of a tracking server"
            )

    def check(self) -> None:
        """Raises MirrorError when the store cannot be reached.

        MLflow's client would try again for minutes before it said so.
        """
        import httpx

        try:
            if self._is_server:
                answer = httpx.get(f"{self._url.rstrip('/')}/health", timeout=_PROBE_TIMEOUT_S)
                answer.raise_for_status()
                return
            parsed = make_url(self._url)
            if parsed.get_backend_name() == "sqlite" and parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(parsed)
            try:
                engine.connect().close()
            finally:
                engine.dispose()
        except (
            *(httpx.HTTPError, httpx.InvalidURL),
            *(SQLAlchemyError, ArgumentError, ValueError, OSError),
        ) as error:
            raise MirrorError(f"MLflow at {shown(self._url)} cannot be reached: {error}") from error

    def run(self, run_id: str, *, model: str, started_ms: int, tags: Mapping[str, str]) -> str:
        """MLflow's id of the run that mirrors `run_id`, made unless it is there.

        Raises:
            RunGoneError: the experiment of `model` was deleted.
        """
        from mlflow.entities import ViewType

        experiment = self._experiment(model)
        with _refusals(f"run {run_id}"):
            found = self._client.search_runs(
                [experiment],
                filter_string=f"tags.`{ID_TAG}` = '{run_id}'",
                run_view_type=ViewType.ALL,
                max_results=1,
            )
            if found:
                return str(found[0].info.run_id)
            made = self._client.create_run(
                experiment, start_time=started_ms, tags={**tags, ID_TAG: run_id}, run_name=run_id
            )
        return str(made.info.run_id)

    def params(self, key: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        entities = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(entities), _MAX_PARAMS_OR_TAGS):
            with self._run_refusals(key):
                self._client.log_batch(key, params=entities[start : start + _MAX_PARAMS_OR_TAGS])

    def tags(self, key: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(name, value) for name, value in tags.items()]
        for start in range(0, len(entities), _MAX_PARAMS_OR_TAGS):
            with self._run_refusals(key):
                self._client.log_batch(key, tags=entities[start : start + _MAX_PARAMS_OR_TAGS])

    def metrics(self, key: str, metrics: Sequence[Metric]) -> None:
        """MLflow drops a metric that is there: same name, step, millisecond and value."""
        for start in range(0, len(metrics), MAX_METRICS):
            with self._run_refusals(key):
                self._client.log_batch(key, metrics=metrics[start : start + MAX_METRICS])

    def inputs(self, key: str, datasets: list[DatasetInput]) -> None:
        with self._run_refusals(key):
            self._client.log_inputs(key, datasets)

    def status(self, key: str, status: str, ended_ms: int | None) -> None:
        with self._run_refusals(key):
            if ended_ms is None:
                self._client.update_run(key, status=status)
            else:
                self._client.set_terminated(key, status=status, end_time=ended_ms)

    def file(self, key: str, name: str, data: bytes) -> None:
        """Puts `data` among the run's artifacts as `name`, a relative path."""
        path = PurePosixPath(name)
        with tempfile.TemporaryDirectory() as folder, self._run_refusals(key):
            local = Path(folder) / path.name
            local.write_bytes(data)
            below = None if path.parent == PurePosixPath() else str(path.parent)
            self._client.log_artifact(key, str(local), below)

    def version(self, model: str, version: str, *, key: str, tags: Mapping[str, str]) -> str:
        """MLflow's number of the version tagged `version`, made unless it is there.

        Its source is the folder bundles/VERSION of the run `key`.
        """
        name = safe_model(model)
        with _refusals(f"{model} {version}"):
            self._registered_model(name)
            found = self._client.search_model_versions(
                f"name = '{name}' and tags.`{VERSION_TAG}` = '{version}'"
            )
            if found:
                return str(found[0].version)
            source = f"{self._client.get_run(key).info.artifact_uri}/bundles/{version}"
            made = self._client.create_model_version(
                name, source, key, tags={**tags, VERSION_TAG: version}
            )
        return str(made.version)

    def alias(self, model: str, alias: str, number: str) -> None:
        """Moves `alias` to version `number`; leaves a version that was deleted there alone."""
        from mlflow.exceptions import MlflowException

        with _refusals(f"alias {alias} of {model}"):
            try:
                self._client.set_registered_model_alias(safe_model(model), alias, number)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                _logger.warning("%s %s was deleted in MLflow; %s stays", model, number, alias)

    @cached_property
    def _client(self) -> MlflowClient:
        # MLflow would report its use to its makers, from inside other people's networks.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        with warnings.catch_warnings():
            # MLflow's own mappings, under SQLAlchemy 2.1.
            warnings.filterwarnings("ignore", message="The ``noload`` loader strategy")
            try:
                from mlflow import MlflowClient
            except ModuleNotFoundError as error:
                raise MirrorError(
                    "the MLflow mirror needs mlflow; `pip install raymlops[mlflow]`"
                ) from error
            for noisy in ("mlflow.store.db.utils", "alembic.runtime"):  # the first opening
                logging.getLogger(noisy).setLevel(logging.WARNING)
            with _refusals("the connection"):
                return MlflowClient(tracking_uri=self._url, registry_uri=self._url)

    def _experiment(self, model: str) -> str:
        """The id of the experiment called like the model, made unless it is there."""
        with _refusals(f"experiment {model}"):
            found = self._client.get_experiment_by_name(model)
            if found is None:
                return str(self._client.create_experiment(model, self._artifact_location(model)))
        if found.lifecycle_stage == "deleted":
            raise RunGoneError(model)
        return str(found.experiment_id)

    def _artifact_location(self, model: str) -> str | None:
        if self._artifacts is None:
            return None
        name = safe_model(model)
        if "://" in self._artifacts:
            return f"{self._artifacts.rstrip('/')}/{name}"
        return (Path(self._artifacts).resolve() / name).as_uri()

    def _registered_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @contextlib.contextmanager
    def _run_refusals(self, key: str) -> Iterator[None]:
        """Tells a run that was deleted in MLflow (RunGoneError) from everything else."""
        from mlflow.exceptions import MlflowException

        try:
            with _refusals(f"run {key}"):
                yield
        except MirrorError as error:
            cause = error.__cause__
            if isinstance(cause, MlflowException) and self._is_gone(key, cause):
                raise RunGoneError(key) from error
            raise

    def _is_gone(self, key: str, refusal: Any) -> bool:
        if refusal.error_code == "RESOURCE_DOES_NOT_EXIST":
            return True
        if refusal.error_code != "INVALID_PARAMETER_VALUE":
            return False
        with _refusals(f"run {key}"):
            return bool(self._client.get_run(key).info.lifecycle_stage == "deleted")


def shown(url: str) -> str:
    """`url` without its password: for logs, and for the ledger as the mirror's name."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        return url.rpartition("@")[2]


@contextlib.contextmanager
def _refusals(what: str) -> Iterator[None]:
    """What MLflow, its database or its file system raises, as MirrorError."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise MirrorError(f"MLflow refused {what}: {error}") from error
