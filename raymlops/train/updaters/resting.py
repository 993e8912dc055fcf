"""Parameters that a step may give no gradient, which a server takes for one of zeros.

never one       the same, unless the optimizer decays weights: then they stay with the workers
one at times    moved at the other times too, by an optimizer that remembers: warned of
rows            left as they are, which torch's sgd with momentum does not: warned of
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from torch import nn

from raymlops.errors import TrainingError
from raymlops.train.checks import shown
from raymlops.train.plan.seat import Seat
from raymlops.train.server.optimizers import AdamW, Momentum
from raymlops.train.spec import OptimizerSpec
from raymlops.train.updaters.counterparts import counterpart, moves_by_itself

_logger = logging.getLogger(__name__)


class Resting:
    """What of the parameters that are `trained` rests at times, as one worker sees it.

    `unreached` are those that the loss was not seen to reach, `wavering` those that it reaches in
    some passes. `left_out` are those that no server is to hold, the same on all workers.
    """

    def __init__(
        self,
        spec: OptimizerSpec,
        trained: Mapping[str, nn.Parameter],
        seat: Seat,
        *,
        tables: Collection[str],
        unreached: Collection[str],
        wavering: Collection[str],
    ) -> None:
        self._spec = spec
        left_out = set(seat.told(list(unreached))) - set(tables) if _decays(spec) else set()
        self.left_out = {name: p for name, p in trained.items() if name in left_out}
        self._late: dict[str, nn.Parameter] = {}
        if moves_by_itself(spec):
            late = set(unreached) - set(self.left_out) - set(tables)
            self._late = {name: p for name, p in trained.items() if name in late}
            dense = [name for name in wavering if name not in tables]
            if dense and seat.rank == 0:
                self._warn(dense)
        if tables and seat.rank == 0 and _rests_alone(spec):
            _logger.warning(
                "a server leaves rows of %s as they are while no batch looks them up, and one "
                "process moves them on by gradients of before, as sgd with momentum has it: "
                "numbers are not those of one process; take sgd without momentum or adagrad, or a "
                "plan without a server",
                shown(sorted(tables)),
            )

    def look(self, step: int) -> None:
        """Looks at the gradients of `step`, counted from 0, of which parameters have one after all.

        Raises:
            TrainingError: one of those that are left out.
        """
        reached = [name for name, p in self.left_out.items() if p.grad is not None]
        if reached:
            raise TrainingError(
                f"the loss reaches {', '.join(reached)} at step {step + 1}, and not on the first "
                "rows: a server would decay such weights at every step, other plans at some; set "
                "weight_decay of the optimizer to 0, or go on under a plan without a server"
            )
        if late := [name for name, p in self._late.items() if p.grad is not None]:
            self._warn(late)
            self._late.clear()

    def _warn(self, names: Sequence[str]) -> None:
        _logger.warning(
            "some rows or draws use %s and others do not, and the server's %s moves those that no "
            "row of a step uses, too, by gradients of before: numbers are not those of one "
            "process; take sgd without momentum or adagrad, or a plan without a server",
            shown(names),
            self._spec.name,
        )


def _decays(spec: OptimizerSpec) -> bool:
    """Whether the server's optimizer moves weights whose gradients are zeros."""
    optimizer = counterpart(spec, 1.0)
    return isinstance(optimizer, AdamW) and optimizer.weight_decay > 0


def _rests_alone(spec: OptimizerSpec) -> bool:
    """Whether rows of a table rest on a server only: torch's adam and adamw take no tables."""
    return isinstance(counterpart(spec, 1.0), Momentum)
