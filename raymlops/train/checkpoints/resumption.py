"""Which runs can be gone on with: what is recorded of them says so, and who holds their folder."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from raymlops.errors import TrainingError
from raymlops.ledger import Ledger, Run
from raymlops.train.backend import SPECS, Spec
from raymlops.train.checkpoints.folder import CheckpointFolder
from raymlops.train.spec import CheckpointPolicy

_logger = logging.getLogger(__name__)


def spec_as_json(spec: Spec) -> tuple[dict[str, Any], bool]:
    """The spec, and whether it comes back equal from it: JSON makes texts of paths and keys, and
    lists of tuples."""
    adapter: TypeAdapter[Spec] = TypeAdapter(type(spec))
    try:
        written = adapter.dump_python(spec, mode="json")
    except PydanticSerializationError:
        return adapter.dump_python(spec, mode="json", fallback=lambda o: type(o).__name__), False
    return written, adapter.validate_python(written) == spec


def spec_of(recorded: Mapping[str, Any], run_id: str) -> Spec:
    """What `spec_as_json` made of the spec of that run, in this raymlops or an earlier one.

    Raises:
        TrainingError: this one cannot read it.
    """
    spec = {**recorded["spec"]}
    if "communication" in spec:
        spec["communication"] = _with_settings_of_nccl(spec["communication"])
    kind = SPECS[recorded.get("framework", "torch")]
    try:
        return TypeAdapter(kind).validate_python(spec)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise TrainingError(
            f"run {run_id} was recorded by another raymlops, whose spec this one cannot read "
            f"({'; '.join(problems)}): resume it by that one, or train anew"
        ) from None


def _with_settings_of_nccl(communication: Mapping[str, Any]) -> dict[str, Any]:
    """Before there were more of them, they were `nccl`, a preset, and `gpu_direct` beside it."""
    former = {**communication}
    gpu_direct = former.pop("gpu_direct", None)
    if not isinstance(former.get("nccl"), dict):
        former["nccl"] = {"preset": former.get("nccl"), "gpu_direct": gpu_direct}
    return former


def resumable(run: Run, ledger: Ledger, home: Path) -> dict[str, Any]:
    """What was recorded of `run`, which has ended and left checkpoints in a folder that nobody else
    trains in.

    Raises:
        TrainingError: it cannot be gone on with, or not now.
    """
    recorded: dict[str, Any] = json.loads(ledger.text(run.config_digest))
    if run.status == "running":
        raise TrainingError(f"run {run.id} is running, as {run.owner}; resume it when it has ended")
    if "resumable" not in recorded:
        raise TrainingError(
            f"run {run.id} keeps no checkpoints, since it is none of a spec: train a table's model "
            f"anew with its files, and go on with a search by `raymlops tune --resume {run.id}`"
        )
    if not recorded["resumable"]:
        raise TrainingError(
            f"run {run.id} cannot be resumed: its spec held values that JSON does not keep as they "
            "are; give the factories texts, numbers and lists"
        )
    recorded["folder"] = _folder_now(recorded["folder"], home)
    for other in _running_in(recorded["folder"], ledger):
        raise _goes_on(other, run.id, recorded["folder"])
    policy = CheckpointPolicy(**recorded["spec"]["checkpoints"])
    if newest_step(recorded["folder"], policy) is None:
        raise TrainingError(
            f"run {run.id} left no checkpoint in {recorded['folder']}, so there is nothing to go "
            f"on from: start it anew; checkpoints.every_steps was {policy.every_steps}, and keeps "
            "one every so many steps"
        )
    return recorded


def training_folder(home: Path, name: str) -> str:
    """Where a training of that home keeps its checkpoints."""
    return str((home / "training" / name).resolve())


def _folder_now(recorded: str, home: Path) -> str:
    """Where the checkpoints lie that were recorded to lie there: a home that was copied, such as a
    backup that was put back elsewhere, goes on with its own, and not in the folder of the other."""
    own = training_folder(home, Path(recorded).name)
    return own if Path(own).is_dir() else recorded


def newest_step(folder: str, policy: CheckpointPolicy) -> int | None:
    """The step of the newest checkpoint in that folder whose files are all there, None without one.

    What is damaged is told of here, where somebody reads: workers, who set it aside, log to files.
    """
    return max(_saved(folder, policy).steps(), default=None)


def newest_whole_step(folder: str, policy: CheckpointPolicy) -> int | None:
    """The step that a training in that folder goes on from, None where it starts anew; as
    `newest_step`, but of checkpoints the newest are read until one holds what was written."""
    saved = _saved(folder, policy)
    for step in reversed(saved.steps()):
        if (harm := saved.damage(step)) is None:
            return step
        _tell(saved.path(step), harm)
    return None


def _saved(folder: str, policy: CheckpointPolicy) -> CheckpointFolder:
    saved = CheckpointFolder(Path(folder.removeprefix("file://")), policy)
    for path, harm in saved.harms().items():
        _tell(path, harm)
    return saved


def _tell(path: Path, harm: str) -> None:
    _logger.warning("checkpoint %s is damaged, and left out: %s", path, harm)


def require_first(run: Run, parent: Run, folder: str, ledger: Ledger) -> None:
    """Of runs that go on with `parent` at the same moment, only the first does.

    Raises:
        TrainingError: another was recorded before `run`.
    """
    for other in _running_in(folder, ledger):
        if (other.started_at, other.id) < (run.started_at, run.id):
            raise _goes_on(other, parent.id, folder)


def _goes_on(other: Run, run_id: str, folder: str) -> TrainingError:
    return TrainingError(
        f"run {other.id} goes on already with the checkpoints of run {run_id} in {folder}, "
        f"as {other.owner}; let it end, and resume it should it fail"
    )


def _running_in(folder: str, ledger: Ledger) -> list[Run]:
    """The trainings that are running and keep their checkpoints there."""
    return [
        run
        for run in ledger.runs.list(kind="train", status="running")
        if folder_in(ledger.text(run.config_digest)) == folder
    ]


def folder_in(config: str) -> str | None:
    """What a Trainer called its folder; None in what others recorded of theirs."""
    with contextlib.suppress(ValueError, AttributeError):
        folder: str | None = json.loads(config).get("folder")
        return folder
    return None
