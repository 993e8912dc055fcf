"""What counts as drift: which tests, how sure, how far, how often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from raymlops.data.bins import Bins
from raymlops.data.drift.base import Kind, TestName, kind_of
from raymlops.data.drift.correction import CORRECTIONS, Correction
from raymlops.data.drift.family import TESTS


@dataclass(frozen=True, kw_only=True)
class FeaturePolicy:
    """How one feature is judged where it differs from the others; empty is as they are."""

    tests: tuple[TestName, ...] = ()
    thresholds: Mapping[TestName, float] = field(default_factory=dict)
    ignored: bool = False

    def __post_init__(self) -> None:
        _check_thresholds(self.thresholds)


@dataclass(frozen=True, kw_only=True)
class DriftPolicy:
    """A feature has drifted when the difference is no accident and large enough to matter.

    No accident: `alpha` bounds the probability that an unchanged model raises any alarm, over all
    its inputs (`correction`) and all its windows: the t-th look at one reference gets
    alpha / (t (t + 1)), which adds up to alpha however many there are. That is alpha spending, as
    K. K. G. Lan, D. L. DeMets (1983) do in clinical trials, by the union bound, so that windows
    may overlap. Without `spending` every look gets alpha.

    Large enough: the effect is above the threshold of its test, see there; `thresholds` replaces
    them for all features, `features` for one. A normal feature that moves by a tenth of its
    standard deviation has a KS distance of 0.04.

    Lasting: found in `debounce` windows in a row. Windows under `min_rows` are not judged.
    """

    alpha: float = 0.05
    correction: Correction = "holm"
    spending: bool = True
    numbers: tuple[TestName, ...] = ("ks", "missing")
    categories: tuple[TestName, ...] = ("chi2",)
    thresholds: Mapping[TestName, float] = field(default_factory=dict)
    features: Mapping[str, FeaturePolicy] = field(default_factory=dict)
    debounce: int = 1
    min_rows: int = 500

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha is {self.alpha}, not between 0 and 1")
        if self.correction not in CORRECTIONS:
            raise ValueError(f"correction is '{self.correction}', not {' or '.join(CORRECTIONS)}")
        if self.min_rows < 1:
            raise ValueError(f"min_rows is {self.min_rows}; a window needs a row to be judged")
        if self.debounce < 1:
            raise ValueError(f"debounce is {self.debounce}; drift shows in 1 window at least")
        _check_tests("numbers", self.numbers, "number")
        _check_tests("categories", self.categories, "category")
        _check_thresholds(self.thresholds)

    def tests(self, bins: Bins) -> tuple[TestName, ...]:
        """The tests of a feature, none where it is ignored.

        Raises:
            ValueError: one was asked for that cannot judge the feature.
        """
        kind = kind_of(bins)
        special = self.features.get(bins.name, FeaturePolicy())
        if special.ignored:
            return ()
        if special.tests:
            _check_tests(f"features.{bins.name}.tests", special.tests, kind)
            return special.tests
        return self.numbers if kind == "number" else self.categories

    def check(self, kinds: Mapping[str, Kind]) -> None:
        """Holds `features` against those there are, by name.

        Raises:
            ValueError: it names one that is not there, or a test that cannot judge it.
        """
        unknown = sorted(set(self.features) - set(kinds))
        if unknown:
            raise ValueError(
                f"drift.features names {', '.join(unknown)}; the features are {', '.join(kinds)}"
            )
        for name, special in self.features.items():
            if special.tests:
                _check_tests(f"features.{name}.tests", special.tests, kinds[name])

    def threshold(self, feature: str, test: str) -> float:
        """The effect that must be exceeded."""
        name = TESTS[test].name
        special = self.features.get(feature, FeaturePolicy())
        return special.thresholds.get(name, self.thresholds.get(name, TESTS[name].threshold))

    def alpha_of(self, look: int) -> float:
        """What p-values must lie below in the `look`-th window, counted from 1."""
        if look < 1:
            raise ValueError(f"look is {look}; the first is 1")
        return self.alpha / (look * (look + 1)) if self.spending else self.alpha

    def exceeded(
        self, feature: str, test: str, *, effect: float, p_value: float, look: int
    ) -> bool:
        """Whether one window, by itself, shows drift."""
        return effect > self.threshold(feature, test) and p_value < self.alpha_of(look)


def _check_tests(where: str, names: Iterable[TestName], kind: Kind) -> None:
    names = tuple(names)
    able = [name for name, test in TESTS.items() if kind in test.judges]
    unable = [name for name in names if name not in able]
    if unable or not names:
        raise ValueError(
            f"{where} names {', '.join(unable) or 'no test'}; a {kind} is judged by "
            f"{', '.join(able)}"
        )


def _check_thresholds(thresholds: Mapping[TestName, float]) -> None:
    for name, value in thresholds.items():
        if name not in TESTS:
            raise ValueError(f"there is a threshold for '{name}'; tests are {', '.join(TESTS)}")
        if not value >= 0.0:
            raise ValueError(f"the threshold of {name} is {value}, not 0 or more")
        if value >= 1.0 and name not in ("psi", "wasserstein"):
            raise ValueError(f"the threshold of {name} is {value}; its effect is never above 1")
