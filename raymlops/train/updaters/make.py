"""From a spec and a seat to an updater."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from torch import nn

from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.recipe import make_schedule
from raymlops.train.updaters.base import Updater
from raymlops.train.updaters.local import Local

if TYPE_CHECKING:
    from raymlops.train.updaters.served import StartServer


def make_updater(
    spec: TrainSpec,
    parts: Sequence[nn.Module],
    seat: Seat,
    *,
    num_steps: int,
    start_server: StartServer | None = None,
    unreached: Collection[str] = (),
    wavering: Collection[str] = (),
) -> Updater:
    """The updater of `parts`; where the plan has a server and nothing starts it, Ray does.

    `unreached` names the parameters that no gradient is expected of, `wavering` those that have one
    in some passes.

    Raises:
        PlanError: the server cannot train this; says what it could.
    """
    schedule = make_schedule(spec.schedule, num_steps=num_steps)
    if not seat.plan.server:
        return Local(spec, parts, seat, schedule)
    from raymlops.train.server import ParameterServer
    from raymlops.train.updaters.served import Served

    (model,) = parts
    start = start_server or ParameterServer.start
    return Served(
        spec,
        model,
        seat,
        schedule,
        num_steps=num_steps,
        start=start,
        unreached=unreached,
        wavering=wavering,
    )
