"""What a table's model learns to say: an event, one of several classes, or a number."""

from __future__ import annotations

from raymlops.data import TableSchema
from raymlops.train.tabular.targets.base import Target
from raymlops.train.tabular.targets.classes import Classes
from raymlops.train.tabular.targets.event import Event
from raymlops.train.tabular.targets.number import Number

__all__ = ["Classes", "Event", "Number", "Target", "target_of"]


def target_of(schema: TableSchema) -> Target:
    """The target that `schema` declares."""
    if schema.task == "regression":
        return Number()
    return Classes(schema.classes) if schema.classes else Event()
