"""Layouts: how one worker holds its part of a model and steps it."""

from raymlops.train.layouts.arrange import arrange
from raymlops.train.layouts.base import Layout, Rows

__all__ = ["Layout", "Rows", "arrange"]
