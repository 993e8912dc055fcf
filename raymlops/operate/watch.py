"""Puts an operator together with the deployed model it watches."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from raymlops.data import open_source
from raymlops.errors import ConfigError, DataError
from raymlops.operate.challenger import Source, make_challenger
from raymlops.operate.operator import Operator
from raymlops.operate.releasing import publisher
from raymlops.operate.serving import start_monitor
from raymlops.operate.workspace import Workspace


def watch(workspace: Workspace, source: Source | None = None) -> Operator:
    """The operator of the workspace's model, which is deployed on the connected Ray. Without a
    source of rows it makes no challengers, as of a model that was trained elsewhere.

    with watch(workspace, source) as operator:
        operator.tick(now)
    """
    return Operator(
        workspace,
        monitor=start_monitor(workspace, workspace.model),
        make_challenger=None if source is None else partial(make_challenger, workspace, source),
        publish=publisher(workspace),
    )


def check_rows(workspace: Workspace, path: Path | None) -> None:
    """Returns quietly when the table at `path` has the columns of the workspace's, or neither is
    one; reads no row.

    They are read when a challenger is made, which may be months from now.

    Raises:
        DataError: there is no table, or it lacks a column.
        ConfigError: the settings describe a table and there is no path, or the other way round.
    """
    if path is None:
        if workspace.settings.data is not None:
            raise ConfigError(
                f"{workspace.model} is trained on a table: give --data FILE, the rows that its "
                "challengers are trained on"
            )
        return
    if workspace.settings.data is None:
        raise ConfigError(
            f"{path} is given, but the settings describe no table (data) to train "
            f"{workspace.model} on: leave --data out, or describe it"
        )
    schema = workspace.schema
    found = open_source(path).schema.names
    wanted = [*(feature.name for feature in schema.features), schema.target, schema.event_time]
    if missing := [name for name in wanted if name not in found]:
        raise DataError(
            f"{path} lacks what challengers are trained on: {', '.join(missing)}; it has "
            f"{', '.join(found)}"
        )
