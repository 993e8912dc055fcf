"""A driver script as a job of the cluster, which opens the workspace of who submits it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from raymlops import cluster
from raymlops.cluster import JobResult
from raymlops.cluster.lifecycle import recorded_cluster
from raymlops.config import file_layer, literal
from raymlops.operate.settings import ENVIRONMENT_VARIABLE
from raymlops.operate.workspace import Workspace

_HOME_VARIABLE = "RAYMLOPS__HOME"


def submit(
    workspace: Workspace,
    script: str | Path,
    args: Sequence[str] = (),
    *,
    working_dir: Path,
    include: Sequence[str] = (),
    environment: str | None = None,
    on_log: Callable[[str], None] | None = None,
) -> JobResult:
    """The end of `python SCRIPT ARGS` on the cluster, run in a copy of `working_dir`.

    The job has this workspace's home, unless a configuration file among `args`, or an option of
    the script, names another; and this `environment`, where there is one. Data and models stay
    here, but those of `include`, gitignore patterns.

    Raises:
        ConfigError: a configuration file among `args` is malformed.
        ClusterError: see `raymlops.cluster.submit`.
    """
    variables = {} if environment is None else {ENVIRONMENT_VARIABLE: environment}
    if _is_for_jobs(workspace) and not any(_names_home(working_dir / each) for each in args):
        variables[_HOME_VARIABLE] = literal(str(workspace.home))
    return cluster.submit(
        script,
        args,
        settings=workspace.settings.cluster,
        home=workspace.home,
        working_dir=working_dir,
        include=include,
        env=variables,
        on_log=on_log,
    )


def _is_for_jobs(workspace: Workspace) -> bool:
    """Whether a job finds the home: one that is relative to here is nothing to another machine."""
    record = recorded_cluster(workspace.home)
    is_here = record is not None and record.node is not None
    return is_here or Path(workspace.settings.home).is_absolute()


def _names_home(path: Path) -> bool:
    """Whether `path` is a configuration file that sets `home`."""
    is_configuration = path.suffix in (".yaml", ".yml") and path.is_file()
    return is_configuration and ("home",) in file_layer(path).values
