from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from raymlops.data import Profile
from raymlops.data.error_cap import ErrorCap, cap_among


def errors() -> np.ndarray:
    x, y = load_diabetes(return_X_y=True)
    return LinearRegression().fit(x[:, :4], y).predict(x[:, :4]) - y


def test_nothing_of_ordinary_errors_is_capped() -> None:
    cap = ErrorCap.of(errors())
    assert cap is not None
    assert np.abs(errors()).max() < cap.size < 8.0 * errors().std()
    assert cap.rmse == pytest.approx(np.sqrt(np.mean(errors() ** 2)))


def test_of_heavy_tails_it_is_what_one_in_a_thousand_exceeds() -> None:
    tails = np.random.default_rng(0).standard_t(2, 10_000)
    cap = ErrorCap.of(tails)
    assert cap is not None
    assert (np.abs(tails) > cap.size).sum() == 10
    assert cap.rmse == pytest.approx(np.sqrt(np.mean(np.clip(tails, -cap.size, cap.size) ** 2)))


@pytest.mark.parametrize("num_rows", [50, 442, 10_000])
def test_one_wild_label_at_training_hardly_moves_it(num_rows: int) -> None:
    """It would be the scale of all that comes later: nothing would be far off beside it."""
    some = np.random.default_rng(0).choice(errors(), num_rows)
    before, after = ErrorCap.of(some), ErrorCap.of(np.append(some, 1e9))
    assert before is not None
    assert after is not None
    assert after.size == pytest.approx(before.size, rel=0.1)
    assert after.rmse < 1.5 * before.rmse


def test_of_a_model_that_is_hardly_ever_off_nothing_is_known() -> None:
    assert ErrorCap.of(np.zeros(100)) is None
    assert ErrorCap.of(np.array([0.0] * 100 + [7.0])) is None
    few = ErrorCap.of(np.array([0.0] * 100 + [7.0] * 3))
    assert few is not None
    assert few.size == 7.0


def test_where_a_model_fails_as_a_whole_it_grows() -> None:
    sizes = np.abs(errors())
    cap = ErrorCap.of(sizes)
    assert cap is not None
    assert cap_among(cap.size, sizes) == cap.size
    assert cap_among(cap.size, 50.0 * sizes) == pytest.approx(50.0 * cap.size)
    assert cap_among(cap.size, np.append(sizes, [1e9] * 20)) < 1.5 * cap.size
    # Of two it is that of the better one, beside which the other fails plainly enough.
    assert cap_among(cap.size, 50.0 * sizes, 2.0 * sizes) == pytest.approx(2.0 * cap.size)
    assert cap_among(cap.size, sizes[:0]) == cap.size
    infinite = np.append(sizes, [np.inf] * 20)
    assert np.isfinite(cap_among(cap.size, infinite))


def test_a_profile_keeps_it_and_those_of_old_bundles_have_none() -> None:
    said = np.arange(100, dtype=np.float32)
    profile = Profile.of_numbers((), {}, said, label_mean=50.0, errors=np.append(errors(), 1e9))
    assert Profile.from_dict(profile.to_dict()) == profile
    assert profile.error_cap is not None
    assert profile.capped_loss == profile.error_cap.rmse < 100.0 < profile.loss
    old = profile.to_dict()
    del old["error_cap"]
    assert Profile.from_dict(old).error_cap is None
    assert Profile.from_dict(old).capped_loss == profile.loss
