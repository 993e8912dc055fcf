"""Which optimizer of the server is which of torch, and what their states are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raymlops.train.server.optimizers import Adagrad, Adam, AdamW, Momentum, Optimizer, Rate, Sgd
from raymlops.train.spec import OptimizerSpec, ScheduleSpec
from raymlops.train.spec.recipe import Schedule, make_schedule

# By name in a spec, the arguments a server honours.
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum",),
    "adam": ("betas", "eps"),
    "adamw": ("betas", "eps", "weight_decay"),
    "adagrad": ("eps",),
}

# What torch calls the states, in the order of the server's; beside these most count steps.
STATES: Mapping[type[Optimizer], tuple[str, ...]] = {
    Sgd: (),
    Momentum: ("momentum_buffer",),
    Adam: ("exp_avg", "exp_avg_sq"),
    AdamW: ("exp_avg", "exp_avg_sq"),
    Adagrad: ("sum",),
}
COUNTING: tuple[type[Optimizer], ...] = (Adam, AdamW, Adagrad)
_REMEMBERING: tuple[type[Optimizer], ...] = (Momentum, Adam, AdamW)


@dataclass(frozen=True, kw_only=True)
class ScheduledRate:
    """The learning rate of an update, by its number: a Rate that any process can be sent.

    Update `first + 1` belongs to step `first_step`, counted from 0; a step takes
    `updates_per_step`.
    """

    learning_rate: float
    schedule: ScheduleSpec
    num_steps: int
    first: int
    first_step: int
    updates_per_step: int

    def __call__(self, number: int) -> float:
        step = self.first_step + (number - self.first - 1) // self.updates_per_step
        return self.learning_rate * _schedule(self.schedule, self.num_steps)(step)


def counterpart(spec: OptimizerSpec, rate: Rate) -> Optimizer:
    """The optimizer of the server that does what torch's of this spec does.

    Raises:
        ValueError: there is none; says which there are.
    """
    possible = "; ".join(f"{name} ({', '.join(of)})" for name, of in _ARGUMENTS.items())
    if spec.name not in _ARGUMENTS:
        raise ValueError(f"a server has no optimizer {spec.name}; it has {possible}")
    unknown = sorted(set(spec.arguments) - set(_ARGUMENTS[spec.name]))
    if unknown:
        raise ValueError(
            f"the server's {spec.name} has no argument {', '.join(unknown)}; it has {possible}"
        )
    return _MAKERS[spec.name](rate, spec.arguments)


def moves_by_itself(spec: OptimizerSpec) -> bool:
    """Whether gradients of before move what has none now, which a server takes for zeros."""
    return isinstance(counterpart(spec, 1.0), _REMEMBERING)


def _sgd(rate: Rate, given: Mapping[str, Any]) -> Optimizer:
    momentum = given.get("momentum", 0.0)
    return Momentum(learning_rate=rate, momentum=momentum) if momentum else Sgd(learning_rate=rate)


def _adam(rate: Rate, given: Mapping[str, Any]) -> Optimizer:
    return Adam(learning_rate=rate, **_moments(given))


def _adamw(rate: Rate, given: Mapping[str, Any]) -> Optimizer:
    decay = given.get("weight_decay", AdamW.weight_decay)
    return AdamW(learning_rate=rate, weight_decay=decay, **_moments(given))


def _adagrad(rate: Rate, given: Mapping[str, Any]) -> Optimizer:
    return Adagrad(learning_rate=rate, epsilon=given.get("eps", Adagrad.epsilon))


def _moments(given: Mapping[str, Any]) -> dict[str, float]:
    betas: Sequence[float] = given.get("betas", (Adam.beta1, Adam.beta2))
    return {"beta1": betas[0], "beta2": betas[1], "epsilon": given.get("eps", Adam.epsilon)}


_MAKERS: Mapping[str, Callable[[Rate, Mapping[str, Any]], Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "adagrad": _adagrad,
}


@lru_cache(maxsize=8)
def _schedule(spec: ScheduleSpec, num_steps: int) -> Schedule:
    return make_schedule(spec, num_steps=num_steps)
