"""Puts an operator together with the deployed model it watches."""

from __future__ import annotations

from functools import partial

from raymlops.operate.challenger import Source, make_challenger
from raymlops.operate.operator import Operator
from raymlops.operate.verbs import publisher, start_monitor
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
