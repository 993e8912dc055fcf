"""Whether memory holds another version beside those that are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_EXPECTED_RATIO = 3.0
"""Of a version's bytes: as read, as the engine holds them, and room to run."""
_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class SwapPolicy:
    """How one version takes over from another.

    Args:
        mode: beside loads and warms the new one beside the old, and refuses it where memory does
            not hold both. rolling then unloads the old one first; until the new one is loaded,
            this replica answers 503. A canary, beside which the old one stays, is refused by
            either.
        reserve_mib: memory that no version may take.
    """

    mode: Literal["beside", "rolling"] = "beside"
    reserve_mib: int = 256

    def __post_init__(self) -> None:
        if self.mode not in ("beside", "rolling"):
            raise ValueError(f"mode is {self.mode!r}, neither 'beside' nor 'rolling'")
        if self.reserve_mib < 0:
            raise ValueError(f"reserve_mib is {self.reserve_mib}, it cannot be negative")


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What loading a version of `size_bytes` took, as far as the process grew by it."""

    size_bytes: int
    grown_bytes: int

    @property
    def ratio(self) -> float:
        """How much more than its size; never less than its size itself."""
        return max(1.0, self.grown_bytes / max(1, self.size_bytes))


def expected_bytes(size_bytes: int, loaded: list[Footprint]) -> int:
    """What a version of that size will take: like the largest of those that were loaded, or a
    usual multiple before there are any."""
    if not loaded:
        return round(size_bytes * _EXPECTED_RATIO)
    like = max(loaded, key=lambda each: each.size_bytes)
    return round(size_bytes * like.ratio)


def shortage(
    version: str, needed_bytes: int, free_bytes: int, policy: SwapPolicy, *, replaces: bool
) -> str | None:
    """Why `version` cannot be loaded beside the others; None when it can.

    Args:
        replaces: whether another one goes when it is there, and could go before.
    """
    if needed_bytes + policy.reserve_mib * _MIB <= free_bytes:
        return None
    way_out = "give the node more memory"
    if replaces and policy.mode == "beside":
        way_out += (
            ", or set serve.swap.mode to rolling, which unloads the old version first and answers "
            "503 meanwhile"
        )
    return (
        f"version {version} needs about {needed_bytes / _MIB:,.0f} MiB beside what serves, "
        f"{free_bytes / _MIB:,.0f} MiB are free, of which {policy.reserve_mib:,} MiB stay in "
        f"reserve: {way_out}"
    )
