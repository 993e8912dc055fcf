"""A closed-loop load generator: how many requests a model answers, and how quickly."""

from raymlops.serve.bench.bodies import example_bodies
from raymlops.serve.bench.load import Load, Target, measure

__all__ = ["Load", "Target", "example_bodies", "measure"]
