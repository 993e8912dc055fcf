"""What one wild label does to the RMSE of a window, and to a canary: as it is, and capped.

Errors are drawn as models make them: normal, with the tails of t(3), log-normal, and those of the
delays of flights that a linear regression says. How often each loss decides is held against what is
true: intervals hold the truth, a model as good as at training calls for none, one whose errors are
30 % larger does.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from benchmarks.figures import Figure, report
from raymlops.data.error_cap import ErrorCap
from raymlops.demo.flights import data_folder
from raymlops.monitor.losses import RMSE, paired_difference
from raymlops.monitor.measures import regression

NUM_ROWS = 500
NUM_UNSEEN = 2_000
LIMIT = 1.1
"""Of what the loss was at training: `retrain.max_loss_increase` as it is by default."""

Vector = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Vector]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Shares of windows in which the interval holds the truth, and a trigger fires."""

    holds: float
    fires: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer windows")
    num_windows = 200 if parser.parse_args().quick else 2_000
    figures: list[Figure] = []
    for name, draw in _draws().items():
        rng = np.random.default_rng(0)
        for case, scale, num_wild in (
            ("as_at_training", 1.0, 0),
            ("30_percent_worse", 1.3, 0),
            ("30_percent_worse_one_wild", 1.3, 1),
        ):
            plain, capped = windows(draw, rng, num_windows, scale=scale, num_wild=num_wild)
            figures.append(_figure(f"{name}_{case}_fires", capped.fires, plain.fires))
            if scale == 1.0:
                figures.append(_figure(f"{name}_interval_holds", capped.holds, plain.holds))
        plain_gates, capped_gates = gates(draw, rng, num_windows)
        figures.append(_figure(f"{name}_better_one_wild_passes", capped_gates, plain_gates))
    report("wild_labels", figures)


def windows(
    draw: Draw, rng: np.random.Generator, num_windows: int, *, scale: float, num_wild: int
) -> tuple[Counted, Counted]:
    """By the RMSE, and by the capped one, whose cap is that of unseen rows."""
    cap = _cap(draw, rng)
    many = np.abs(draw(rng, 1_000_000))
    truths = {
        "rmse": math.sqrt(float(np.mean(many**2))),
        "capped_rmse": math.sqrt(float(np.mean(np.minimum(many, cap) ** 2))),
    }
    counts = dict.fromkeys(truths, np.zeros(2))
    clusters = np.arange(NUM_ROWS)
    for _ in range(num_windows):
        came = rng.normal(0.0, 3.0 * truths["rmse"], NUM_ROWS)
        said = came + scale * draw(rng, NUM_ROWS)
        came[:num_wild] = 1e9 * truths["rmse"]
        found = {
            each.metric: each
            for each in regression(said, came, clusters, label_mean=0.0, error_cap=cap)
        }
        for metric, truth in truths.items():
            of = found[metric]
            counts[metric] = counts[metric] + (of.low <= truth <= of.high, of.low > LIMIT * truth)
    plain, capped = (counts[metric] / num_windows for metric in truths)
    return Counted(holds=plain[0], fires=plain[1]), Counted(holds=capped[0], fires=capped[1])


def gates(draw: Draw, rng: np.random.Generator, num_gates: int) -> tuple[float, float]:
    """In which share a challenger whose errors are 30 % smaller is shown to be better on the same
    rows, one of whose labels is wild."""
    cap, passed = _cap(draw, rng), np.zeros(2)
    clusters = np.arange(NUM_ROWS)
    for _ in range(num_gates):
        old = draw(rng, NUM_ROWS)
        new = 0.7 * (0.8 * old + 0.6 * draw(rng, NUM_ROWS))
        old[0] = new[0] = 1e9
        costs = old**2, new**2
        for number, (champion, challenger) in enumerate((costs, RMSE.capped(*costs, cap))):
            passed[number] += paired_difference(RMSE, champion, challenger, clusters).high < 0.0
    plain, capped = passed / num_gates
    return float(plain), float(capped)


def _cap(draw: Draw, rng: np.random.Generator) -> float:
    found = ErrorCap.of(draw(rng, NUM_UNSEEN))
    assert found is not None
    return found.size


def _draws() -> Mapping[str, Draw]:
    errors = _errors_of_delays()
    return {
        "normal": lambda rng, num: rng.normal(size=num),
        "t3": lambda rng, num: rng.standard_t(3, num),
        "log_normal": lambda rng, num: np.exp(rng.normal(size=num)) - math.exp(0.5),
        "flights": lambda rng, num: rng.choice(errors, num),
    }


def _errors_of_delays() -> Vector:
    """Minutes, of February 2013, by a regression of January."""
    flights = pd.read_csv(data_folder() / "flights.csv.zip").dropna(subset=["arr_delay"])
    asked = ["dep_delay", "distance", "hour"]
    january, february = (flights[flights["month"] == month] for month in (1, 2))
    model = LinearRegression().fit(january[asked], january["arr_delay"])
    errors: Vector = model.predict(february[asked]) - february["arr_delay"].to_numpy()
    return errors


def _figure(name: str, capped: float, plain: float) -> Figure:
    return Figure(name=name, unit="share", ours=float(capped), references={"RMSE": float(plain)})


if __name__ == "__main__":
    main()
