"""A table declared once: its features, its target, its time and the rules it keeps.

From this declaration come the expectations of a dataset, the signature of the model, its
preprocessing and its reference profile, so they cannot contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from raymlops.data.classes import Class, check_classes
from raymlops.data.features import Feature
from raymlops.data.profile import OUTPUTS
from raymlops.data.rules import Rule
from raymlops.ledger.names import check_name

Task = Literal["classification", "regression"]


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """What a table must hold to train from: features, a 0/1 target and the time of each event.

    With `classes` the target is one of these, names or whole numbers, and a model tells them apart.
    Of the `task` regression it is a number.
    `expectations` are rules beyond what the features say, see `raymlops.data.rules`.
    """

    dataset: str
    target: str
    event_time: str
    features: tuple[Feature, ...]
    task: Task = "classification"
    classes: tuple[Class, ...] = ()
    min_rows: int = 1
    expectations: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.dataset, of="dataset")
        names = [feature.name for feature in self.features]
        if not names:
            raise ValueError(f"dataset {self.dataset} declares no features")
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise ValueError(f"features declared twice: {', '.join(sorted(doubled))}")
        if taken := [name for name in OUTPUTS if name in names]:
            raise ValueError(
                f"a feature is called '{taken[0]}', as the model's own output is in profiles and "
                "drift; give the column another name, in the data and here"
            )
        if self.task not in get_args(Task):
            raise ValueError(f"task is {self.task!r}, not 'classification' or 'regression'")
        if self.classes:
            check_classes(self.classes)
            if self.task == "regression":
                raise ValueError(
                    f"task is 'regression', and there are {len(self.classes)} classes: a number is "
                    "of no class, leave one of both out"
                )
        if self.target in names:
            raise ValueError(f"the target '{self.target}' is among the features; it would leak")

    @property
    def columns(self) -> tuple[str, ...]:
        """All that a model is trained from."""
        return (*(feature.name for feature in self.features), self.target, self.event_time)

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that are read from CSV as they are written."""
        categories = (feature.name for feature in self.features if feature.kind == "category")
        are_names = any(isinstance(each, str) for each in self.classes)
        return (*categories, self.target) if are_names else tuple(categories)
