"""What to try next, by Optuna, as a function of the seed, a trial's number, and what had ended.

    next() ──► (number, parameters)          numbers count from 0, in the order of suggestions
    end(number, loss)                        what the suggestions after it are drawn from

Each number draws from a seed of its own, so whoever knows what was tried goes on as if nothing had
been: no state of a random generator is lost with a process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.trial import TrialState, create_trial

from raymlops.train.tabular.spec import TabularSpec
from raymlops.tune.spec import TuneSpec

Outcome = Literal["finished", "failed", "cut off"]


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A suggestion that was made, and what became of it; `loss` is that of a finished one."""

    number: int
    parameters: Mapping[str, Any]
    outcome: Outcome
    loss: float | None = None


class Suggestions:
    """Those of Optuna's TPE after what was `tried`, of which it suggests again what was cut off."""

    def __init__(self, spec: TuneSpec, *, seed: int, tried: Iterable[Tried] = ()) -> None:
        # Its handler tells of every study that begins, on a logger nobody asked for.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._seed, self._space = seed, _space(spec)
        self._study = optuna.create_study(direction="minimize")
        self._open: dict[int, optuna.Trial] = {}
        known = {each.number: each for each in tried}
        for number in range(max(known, default=-1) + 1):
            self._know(known.get(number))

    def next(self) -> tuple[int, dict[str, Any]]:
        """The number of the next trial and its parameters."""
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        known = self._study.get_trials(deepcopy=False)
        number = waiting[0].number if waiting else len(known)
        seed = np.random.SeedSequence((self._seed % 2**64, number)).generate_state(1)[0]
        self._study.sampler = optuna.samplers.TPESampler(seed=int(seed))
        trial = self._open[number] = self._study.ask(self._space)
        assert trial.number == number, "what waits is asked for first, in the order of numbers"
        return number, trial.params

    def end(self, number: int, loss: float | None) -> None:
        """Takes in the loss of a trial, None of one that failed."""
        state = TrialState.FAIL if loss is None else TrialState.COMPLETE
        self._study.tell(self._open.pop(number), loss, state=state)

    def _know(self, tried: Tried | None) -> None:
        """One more trial of the study; None is one that was suggested, and died before it said so:
        its number draws again."""
        if tried is None or tried.outcome == "cut off":
            self._study.enqueue_trial({} if tried is None else dict(tried.parameters))
            return
        failed = tried.outcome == "failed"
        self._study.add_trial(
            create_trial(
                state=TrialState.FAIL if failed else TrialState.COMPLETE,
                value=None if failed else tried.loss,
                params=dict(tried.parameters),
                distributions=self._space,
            )
        )


def applied(spec: TabularSpec, parameters: Mapping[str, Any]) -> TabularSpec:
    """`spec` with what a suggestion says."""
    return replace(
        spec,
        hidden=tuple(json.loads(parameters["hidden"])),
        dropout=parameters["dropout"],
        learning_rate=parameters["learning_rate"],
        weight_decay=parameters["weight_decay"],
    )


def parameters_in(params: Mapping[str, Any]) -> dict[str, Any]:
    """What was suggested, from the parameters of the run that tried it."""
    return {
        "hidden": _as_category(params["hidden"]),
        **{name: params[name] for name in ("dropout", "learning_rate", "weight_decay")},
    }


def _space(spec: TuneSpec) -> dict[str, BaseDistribution]:
    return {
        "hidden": CategoricalDistribution([_as_category(widths) for widths in spec.hidden]),
        "dropout": FloatDistribution(*spec.dropout),
        "learning_rate": FloatDistribution(*spec.learning_rate, log=True),
        "weight_decay": FloatDistribution(*spec.weight_decay, log=True),
    }


def _as_category(widths: Iterable[int]) -> str:
    """Optuna's categories are plain values, so widths travel as JSON."""
    return json.dumps(list(widths))
