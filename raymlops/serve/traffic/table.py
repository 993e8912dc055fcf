"""Which arm answers a request: sticky by key, in proportion to shares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

_SHARES_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A named part of a model's traffic, and the version that answers it."""

    name: str
    version: str
    share: float

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError(f"the arm of version {self.version} has no name")
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"arm '{self.name}' has share {self.share}, not within 0 and 1")


@dataclass(frozen=True, kw_only=True)
class TrafficTable:
    """How the traffic of `model` is split. Another `salt` deals the same keys out anew.

    An arm with share 0 is loaded, and answers only those who ask for its version.
    """

    model: str
    arms: tuple[Arm, ...]
    salt: str = ""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise ValueError(f"{self.model} has two arms named {', '.join(sorted(doubled))}")
        total = math.fsum(arm.share for arm in self.arms)
        if not math.isclose(total, 1.0, rel_tol=0.0, abs_tol=_SHARES_TOLERANCE):
            raise ValueError(f"the shares of {self.model} add up to {total:g}, not to 1")

    @classmethod
    def champion(cls, model: str, version: str) -> TrafficTable:
        """All traffic to one version."""
        return cls(model=model, arms=(Arm(name="champion", version=version, share=1.0),))

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions to be loaded, each once."""
        return tuple(dict.fromkeys(arm.version for arm in self.arms))

    def arm_of(self, key: str) -> Arm:
        """The arm of `key`, always the same one.

        An arm whose share grows at the others' expense only gains keys, and one that shrinks only
        loses some, as long as the others keep their proportions: weighted rendezvous hashing
        (Mosharaf et al.; Schindelhauer and Schomaker, SPAA 2005). Intervals of one hash would
        hold this for two arms, but shuffle keys among three.
        """
        arms = self.arms
        return arms[0] if len(arms) == 1 else min(arms, key=lambda arm: self._distance(key, arm))

    def _distance(self, key: str, arm: Arm) -> float:
        """Exponentially distributed over keys with rate `share`: the minimum wins by share."""
        if arm.share == 0.0:
            return math.inf
        text = f"{self.salt}\0{arm.name}\0{key}"
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        uniform = (int.from_bytes(digest) >> 11) / 2**53  # [0, 1), all of a float's 53 bits
        return -math.log1p(-uniform) / arm.share

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON has it, which is how the ledger keeps it."""
        return {"model": self.model, "arms": [asdict(arm) for arm in self.arms], "salt": self.salt}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrafficTable:
        arms = tuple(Arm(**arm) for arm in values["arms"])
        return cls(model=values["model"], arms=arms, salt=values["salt"])
