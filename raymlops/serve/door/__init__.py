"""The door of a node: one address for all models, whose connections go to replicas whole."""

from raymlops.serve.door.door import Door
from raymlops.serve.door.doorway import Doorway
from raymlops.serve.door.roster import Roster

__all__ = ["Door", "Doorway", "Roster"]
