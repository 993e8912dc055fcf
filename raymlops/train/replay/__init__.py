"""Replaying: the passes of a static shape recorded once, and done again from the recording."""

from raymlops.train.replay.base import Recorder
from raymlops.train.replay.passes import Replays

__all__ = ["Recorder", "Replays"]
