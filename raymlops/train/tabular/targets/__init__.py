"""What a table's model learns to say: an event, one of several classes, or a number."""

from __future__ import annotations

from raymlops.data import Class, TableSchema
from raymlops.models import Postprocessing
from raymlops.train.tabular.targets.base import Answers, Target
from raymlops.train.tabular.targets.classes import Classes
from raymlops.train.tabular.targets.event import Event
from raymlops.train.tabular.targets.number import Number

__all__ = ["Answers", "Classes", "Event", "Number", "Target", "target_of", "target_said"]


def target_of(schema: TableSchema) -> Target:
    """The target that `schema` declares."""
    return _target(schema.classes, is_regression=schema.task == "regression")


def target_said(postprocessing: Postprocessing) -> Target:
    """The target of a model that answers so."""
    return _target(postprocessing.classes, is_regression=postprocessing.is_regression)


def _target(classes: tuple[Class, ...], *, is_regression: bool) -> Target:
    if is_regression:
        return Number()
    return Classes(classes) if classes else Event()
