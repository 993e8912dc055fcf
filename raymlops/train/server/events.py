"""What goes into a shard and what comes out of it, between its rules and its plumbing."""

from __future__ import annotations

from dataclasses import dataclass

from raymlops.train.server.block import BlockCopy


@dataclass(frozen=True, kw_only=True)
class Applied:
    """The answer to a push: it is in the parameters, once, whatever happens from now on."""

    worker: int
    block: int
    sequence: int


@dataclass(frozen=True, kw_only=True)
class Granted:
    """The answer to a pull: `version` may be read."""

    worker: int
    block: int
    version: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The answer to a Measure: `value` is what the squares of this shard's part of the mean that
    makes `version` add up to; or the norm of all parts, with version 0, once it is known."""

    worker: int
    version: int
    value: float


Answer = Applied | Granted | Measured


@dataclass(frozen=True, kw_only=True)
class Pull:
    """`worker` wants to read a block, having pushed to it until `sequence`.

    The version it is granted stays until it is released.
    """

    worker: int
    block: int
    sequence: int


@dataclass(frozen=True, kw_only=True)
class Measure:
    """`worker` wants to know how large the mean of the round is that its push `sequence`, to each
    block, belongs to."""

    worker: int
    sequence: int


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What a shard did since its process started."""

    num_updates: int = 0
    num_pushes: int = 0
    num_repeated: int = 0
    num_pulls: int = 0
    """Pulls that asked for a version; in rounds those of the node need not."""
    num_waits: int = 0
    """Pulls that were not answered at once."""

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            num_updates=self.num_updates + other.num_updates,
            num_pushes=self.num_pushes + other.num_pushes,
            num_repeated=self.num_repeated + other.num_repeated,
            num_pulls=self.num_pulls + other.num_pulls,
            num_waits=self.num_waits + other.num_waits,
        )


@dataclass(frozen=True, kw_only=True)
class ShardCopy:
    """A shard on its way to another process."""

    roster: bytes
    blocks: tuple[BlockCopy, ...]
