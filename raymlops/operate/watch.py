"""Puts an operator together with the deployed model it watches."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from raymlops.data import open_source
from raymlops.errors import DataError
from raymlops.operate.challenger import Source, make_challenger
from raymlops.operate.operator import Operator
from raymlops.operate.releasing import publisher
from raymlops.operate.serving import start_monitor
from raymlops.operate.workspace import Workspace


def watch(workspace: Workspace, source: Source) -> Operator:
    """The operator of the workspace's model, which is deployed on the connected Ray.

    with watch(workspace, source) as operator:
        operator.tick(now)
    """
    return Operator(
        workspace,
        monitor=start_monitor(workspace, workspace.model),
        make_challenger=partial(make_challenger, workspace, source),
        publish=publisher(workspace),
    )


def check_rows(workspace: Workspace, path: Path) -> None:
    """Returns quietly when the table at `path` has the columns of the workspace's; reads no row.

    They are read when a challenger is made, which may be months from now.

    Raises:
        DataError: there is no table, or it lacks a column.
    """
    schema = workspace.schema
    found = open_source(path).schema.names
    wanted = [*(feature.name for feature in schema.features), schema.target, schema.event_time]
    if missing := [name for name in wanted if name not in found]:
        raise DataError(
            f"{path} lacks what challengers are trained on: {', '.join(missing)}; it has "
            f"{', '.join(found)}"
        )
