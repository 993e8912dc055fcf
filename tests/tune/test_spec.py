from __future__ import annotations

import pytest

from raymlops.tune import TuneSpec

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_trials": 0}, "num_trials is 0 and max_concurrent 2; both are at least 1"),
        ({"cpus_per_trial": 0.0}, "cpus_per_trial is 0.0; it is positive"),
        ({"cpus_per_trial": NAN}, "cpus_per_trial is nan; it is positive and finite"),
        ({"dropout": (0.5, 0.1)}, "dropout runs from 0.5 to 0.1; give finite ends, the lower one"),
        ({"learning_rate": (NAN, NAN)}, "learning_rate runs from nan to nan; give finite ends"),
        ({"weight_decay": (1e-4, INF)}, "weight_decay runs from 0.0001 to inf; give finite ends"),
        ({"learning_rate": (0.0, 0.1)}, "a logarithmic scale needs positive ends"),
        ({"hidden": ()}, "hidden offers no choice; give at least one"),
        ({"hidden": ((8,), (16, 0))}, r"hidden is \(16, 0\); give one width of at least 1 a layer"),
        ({"dropout": (0.0, 1.5)}, r"dropout is 1.5, not within \[0, 1\)"),
    ],
)
def test_an_impossible_space_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TuneSpec(**changes)  # type: ignore[arg-type]
