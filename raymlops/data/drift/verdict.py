"""The verdict on each feature of a window, corrected for all that were judged beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from raymlops.data.bins import Bins, Counts
from raymlops.data.drift.base import TestName
from raymlops.data.drift.correction import CORRECTIONS
from raymlops.data.drift.family import TESTS
from raymlops.data.drift.policy import DriftPolicy

_CERTAIN = 1e-12  # p-values below this differ by the size of the window, not by what they tell


@dataclass(frozen=True, kw_only=True)
class FeatureDrift:
    """How far one feature lies from its reference, by the test that tells most.

    `p_value` is adjusted for every test that was made beside it.
    """

    feature: str
    test: TestName
    num_rows: int
    effect: float
    p_value: float
    drifted: bool


class Judged(Protocol):
    """What an earlier window said of a feature."""

    @property
    def feature(self) -> str: ...
    @property
    def test(self) -> str: ...
    @property
    def effect(self) -> float: ...
    @property
    def p_value(self) -> float: ...


def judge(
    counted: Iterable[tuple[Bins, Counts, Counts]],
    num_rows: int,
    policy: DriftPolicy,
    *,
    look: int = 1,
) -> tuple[FeatureDrift, ...]:
    """A verdict for each feature that is not ignored, in order.

    Args:
        counted: bins of each feature with the counts of its reference and of its window.
        num_rows: of the window.
        look: how many windows, this one included, were held against this reference.

    Raises:
        ValueError: the policy asks for a test that cannot judge the feature.
    """
    judged = [(bins, reference, window, policy.tests(bins)) for bins, reference, window in counted]
    tested = [
        _most_telling(_tests(bins, reference, window, tests, policy))
        for bins, reference, window, tests in judged
        if tests
    ]
    adjusted = CORRECTIONS[policy.correction]([test.p_value for test in tested]).tolist()
    return tuple(
        FeatureDrift(
            feature=test.feature,
            test=test.name,
            num_rows=num_rows,
            effect=test.effect,
            p_value=p_value,
            drifted=policy.exceeded(
                test.feature, test.name, effect=test.effect, p_value=p_value, look=look
            ),
        )
        for test, p_value in zip(tested, adjusted, strict=True)
    )


def debounced(
    found: Iterable[FeatureDrift],
    earlier: Sequence[Sequence[Judged]],
    policy: DriftPolicy,
    *,
    num_more: int = 0,
) -> tuple[FeatureDrift, ...]:
    """`found` in the newest window; drifted only where `policy.debounce` windows in a row say so.

    Args:
        earlier: what was found in all windows before it, from the first look on.
        num_more: how many looks were made beside these; they count as the first of all, so that no
            window is held against more alpha than it had.
    """
    looks = list(enumerate(earlier, start=num_more + 1))
    recent = looks[max(0, len(looks) - policy.debounce + 1) :]
    exceeding = [
        {
            row.feature
            for row in rows
            if policy.exceeded(
                row.feature,
                row.test,
                effect=row.effect,
                p_value=row.p_value,
                look=look,
            )
        }
        for look, rows in recent
    ]
    enough = len(exceeding) == policy.debounce - 1
    return tuple(
        replace(
            row,
            drifted=row.drifted and enough and all(row.feature in each for each in exceeding),
        )
        for row in found
    )


class _Test(NamedTuple):
    feature: str
    name: TestName
    effect: float
    p_value: float
    matters: bool


def _tests(
    bins: Bins, reference: Counts, window: Counts, names: Iterable[TestName], policy: DriftPolicy
) -> list[_Test]:
    """What those tests say that apply, or the first one where none does."""
    names = tuple(names)
    applying = [name for name in names if TESTS[name].applies(reference, window)] or names[:1]
    tests = []
    for name in applying:
        effect, p_value = TESTS[name].measure(bins, reference, window)
        matters = effect > policy.threshold(bins.name, name)
        tests.append(_Test(bins.name, name, effect, p_value, matters))
    return tests


def _most_telling(tests: list[_Test]) -> _Test:
    """The least likely test whose effect matters, of certain ones that with the largest effect.

    Its p-value is Bonferroni-adjusted, which covers any way of choosing among the tests.
    """

    def rank(test: _Test) -> tuple[bool, float, float]:
        return not test.matters, max(test.p_value, _CERTAIN), -test.effect

    best = min(tests, key=rank)
    return best._replace(p_value=min(1.0, best.p_value * len(tests)))
