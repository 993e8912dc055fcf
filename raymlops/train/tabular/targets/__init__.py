"""What a table's model learns to say: an event, or one of several classes."""

from __future__ import annotations

from raymlops.data import TableSchema
from raymlops.train.tabular.targets.base import Target
from raymlops.train.tabular.targets.classes import Classes
from raymlops.train.tabular.targets.event import Event

__all__ = ["Classes", "Event", "Target", "target_of"]


def target_of(schema: TableSchema) -> Target:
    """The target that `schema` declares."""
    return Classes(schema.classes) if schema.classes else Event()
