from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.data import Feature
from raymlops.data.bins import bins_of
from raymlops.data.drift import DriftPolicy, FeatureDrift, FeaturePolicy, debounced, judge
from raymlops.errors import ConfigError
from raymlops.operate import load_settings
from tests.data.drift.counted import categories, numbers


def row(*, effect: float, p_value: float = 0.0, feature: str = "x") -> FeatureDrift:
    return FeatureDrift(
        feature=feature, test="ks", num_rows=1_000, effect=effect, p_value=p_value, drifted=True
    )


def test_looks_share_one_alpha_however_many_there_are() -> None:
    policy = DriftPolicy(alpha=0.05)
    assert [policy.alpha_of(look) for look in (1, 2, 3)] == pytest.approx(
        [0.05 / 2, 0.05 / 6, 0.05 / 12]
    )
    spent = sum(policy.alpha_of(look) for look in range(1, 10_000))
    assert 0.0499 < spent < 0.05
    assert DriftPolicy(spending=False).alpha_of(100) == 0.05
    with pytest.raises(ValueError, match="look is 0"):
        policy.alpha_of(0)


def test_a_later_look_needs_stronger_evidence() -> None:
    reference, window = np.arange(2_000.0), np.arange(2_000.0) + 110
    (first,) = judge([numbers(reference, window)], 2_000, DriftPolicy())
    (tenth,) = judge([numbers(reference, window)], 2_000, DriftPolicy(), look=10)
    assert first.p_value == tenth.p_value
    assert (first.drifted, tenth.drifted) == (True, False)


def test_false_discoveries_may_be_bounded_instead() -> None:
    counted = [numbers(np.arange(2_000.0), np.arange(2_000.0) + shift) for shift in (100, 110, 0)]
    family = judge(counted, 2_000, DriftPolicy(correction="holm"))
    rate = judge(counted, 2_000, DriftPolicy(correction="benjamini-hochberg"))
    # Of three p-values in order Holm multiplies the second by 2, Benjamini-Hochberg by 3/2.
    assert family[0].p_value == pytest.approx(rate[0].p_value * 4 / 3)


def test_features_are_judged_by_the_tests_and_thresholds_of_their_own() -> None:
    policy = DriftPolicy(
        thresholds={"ks": 0.5},
        features={
            "x": FeaturePolicy(tests=("wasserstein",), thresholds={"wasserstein": 0.01}),
            "c": FeaturePolicy(ignored=True),
        },
    )
    values = np.arange(2_000.0)
    y = bins_of(Feature(name="y", kind="number"), values)
    counted = [
        numbers(values, values + 200),
        categories(["a"] * 500, ["b"] * 500),
        (y, y.count(values), y.count(values + 200)),
    ]
    found = judge(counted, 2_000, policy)
    assert [(each.feature, each.test, each.drifted) for each in found] == [
        ("x", "wasserstein", True),
        ("y", "ks", False),
    ]


def test_a_test_that_cannot_judge_a_feature_is_refused() -> None:
    policy = DriftPolicy(features={"c": FeaturePolicy(tests=("ks",))})
    with pytest.raises(ValueError, match=r"features\.c\.tests names ks; a category is judged by"):
        judge([categories(["a"], ["a"])], 1, policy)


def test_drift_must_last_as_many_windows_as_asked_for() -> None:
    policy = DriftPolicy(debounce=3, spending=False)
    calm, loud = row(effect=0.01), row(effect=0.3)
    for earlier, drifted in [
        ([], False),
        ([[loud]], False),
        ([[loud], [loud]], True),
        ([[loud], [calm]], False),
        ([[calm], [loud], [loud]], True),
        ([[loud], [row(effect=0.3, feature="y")]], False),
    ]:
        assert [each.drifted for each in debounced([loud], earlier, policy)] == [drifted]
    assert debounced([row(effect=0.3)], [[loud], [loud]], policy)[0].drifted is not False


def test_earlier_windows_are_held_against_the_alpha_of_their_look() -> None:
    policy = DriftPolicy(debounce=2)  # the first look has 0.025, the second 0.0083
    weak = row(effect=0.3, p_value=0.01)
    assert debounced([row(effect=0.3)], [[weak]], policy)[0].drifted
    assert not debounced([row(effect=0.3)], [[weak], [weak]], policy)[0].drifted


@given(st.lists(st.booleans(), max_size=12), st.integers(1, 5))
def test_an_alarm_says_that_the_last_windows_all_exceeded(past: list[bool], debounce: int) -> None:
    policy = DriftPolicy(debounce=debounce, spending=False)
    earlier = [[row(effect=0.3 if each else 0.0)] for each in past]
    alarm = debounced([row(effect=0.3)], earlier, policy)[0].drifted
    assert alarm == (len(past) >= debounce - 1 and all(past[len(past) - debounce + 1 :]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"correction": "none"}, "correction is 'none', not holm or"),
        ({"debounce": 0}, "debounce is 0"),
        ({"min_rows": 0}, "min_rows is 0"),
        ({"numbers": ("chi",)}, "numbers names chi; a number is judged by ks, missing"),
        ({"categories": ("ks",)}, "categories names ks; a category is judged by missing, chi2"),
        ({"numbers": ()}, "numbers names no test"),
        ({"thresholds": {"ks": 1.5}}, "ks is 1.5; its effect is never above 1"),
        ({"thresholds": {"psi": -1}}, "psi is -1, not 0 or more"),
        ({"thresholds": {"k": 0.1}}, "there is a threshold for 'k'; tests are ks"),
    ],
)
def test_an_impossible_policy_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DriftPolicy(**values)  # type: ignore[arg-type]


def test_settings_name_tests_and_thresholds_by_feature() -> None:
    settings = load_settings(
        overrides=[
            "monitor.drift.correction=benjamini-hochberg",
            "monitor.drift.numbers=[ks, wasserstein, missing]",
            "monitor.drift.thresholds={wasserstein: 0.2}",
            "monitor.drift.features={temp: {tests: [psi], thresholds: {psi: 0.25}}}",
        ],
        environ={},
    ).settings
    policy = settings.monitor.drift
    assert policy.numbers == ("ks", "wasserstein", "missing")
    assert (policy.threshold("humid", "wasserstein"), policy.threshold("temp", "psi")) == (
        0.2,
        0.25,
    )


DATA = "data={dataset: d, target: t, event_time: at, features: [{name: c, kind: category}]}"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("{d: {ignored: true}}", "drift.features names d; the features are c, score"),
        ("{c: {tests: [ks]}}", r"features\.c\.tests names ks; a category is judged by"),
    ],
)
def test_settings_that_name_what_is_not_there_are_refused(features: str, message: str) -> None:
    overrides = [DATA, f"monitor.drift.features={features}"]
    with pytest.raises(ConfigError, match=message):
        load_settings(overrides=overrides, environ={})
