"""When a free engine runs a batch, and how large one may be."""

from __future__ import annotations

from dataclasses import dataclass

from raymlops.config import check_durations

_PATIENCE = 3.0
"""After so many usual gaps without an arrival nobody is waited for: the burst is over."""
_WORTHWHILE = 0.1
"""Of the time that the engine takes: to wait for longer costs more than a fuller batch saves."""


@dataclass(frozen=True, kw_only=True)
class BatchPolicy:
    """How many rows run at once, how long they may wait for that, and how many may wait.

    Args:
        max_rows: a request is never split; one of more rows runs alone.
        max_wait_s: the longest a free engine waits for a fuller batch. It waits only while
            others arrive, so a lone request never does; 0 never waits.
        max_queue_rows: what comes beyond is refused with 503 and the time to come back.
        timeout_s: a request that names no deadline has this long, then it is answered 504.
        hang_after_s: a batch that runs longer makes the replica unhealthy, to be replaced.
        priority_step_s: a request of priority 1 counts as having come this much earlier than an
            ordinary one, of 2 twice as much: nobody is overtaken for ever.
        inline_below_s: an engine that proved faster than this for a batch, when it was warmed
            up, runs in the event loop, since handing over to a thread would take longer; 0 never.
        lengths: what rows [positions, ...] are padded to, with `pad_value`, the least that fits;
            rows of one length share a batch. Empty takes rows of one length alone.
        pad_columns: which columns are padded; empty pads all that have positions, those of a fixed
            width, too.
        max_tokens: rows times their padded length of a batch, at most; None is no limit.
        cut_outputs: have a value for each position, of which those of padding are cut off.
    """

    max_rows: int = 1024
    max_wait_s: float = 0.002
    max_queue_rows: int = 65536
    timeout_s: float = 30.0
    hang_after_s: float = 60.0
    priority_step_s: float = 0.1
    inline_below_s: float = 0.0005
    lengths: tuple[int, ...] = ()
    pad_value: float = 0.0
    pad_columns: tuple[str, ...] = ()
    max_tokens: int | None = None
    cut_outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_rows < 1:
            raise ValueError(f"max_rows is {self.max_rows}, at least 1 is needed")
        check_durations(self, "max_wait_s", "priority_step_s", "inline_below_s", may_be_zero=True)
        check_durations(self, "timeout_s", "hang_after_s")
        if self.max_queue_rows < self.max_rows:
            raise ValueError(
                f"max_queue_rows is {self.max_queue_rows}, less than max_rows, {self.max_rows}: "
                "no batch could ever be full"
            )
        if list(self.lengths) != sorted({*self.lengths}) or min(self.lengths, default=1) < 1:
            raise ValueError(f"lengths is {list(self.lengths)}; they must rise, from 1 on")
        for name in ("pad_columns", "max_tokens", "cut_outputs"):
            if getattr(self, name) not in (None, ()) and not self.lengths:
                raise ValueError(f"{name} is about padded rows: set lengths, too")
        if self.max_tokens is not None and self.max_tokens < self.lengths[-1]:
            raise ValueError(
                f"max_tokens is {self.max_tokens}, less than one row of {self.lengths[-1]}"
            )

    def full_at(self, length: int) -> int:
        """Rows of a full batch, where each has that many positions."""
        if self.max_tokens is None or not length:
            return self.max_rows
        return min(self.max_rows, self.max_tokens // length)


def close_after_s(
    policy: BatchPolicy,
    num_rows: int,
    age_s: float,
    *,
    gap_s: float,
    quiet_s: float,
    engine_s: float | None = None,
    length: int = 0,
) -> float:
    """Seconds until a free engine must run what waits; 0 means now.

    Args:
        num_rows: how many wait, the oldest for `age_s`.
        gap_s: the time between arrivals, as `Arrivals` has it.
        quiet_s: since the latest arrival; 0 until whoever could have come since was looked for.
        engine_s: what a run of these will take, if that is known.
        length: positions of a row, where rows are padded.
    """
    # Fewer than two arrivals in all that time are not worth delaying anybody.
    if num_rows >= policy.full_at(length) or 2 * gap_s > policy.max_wait_s:
        return 0.0
    patience_s = _PATIENCE * gap_s
    if engine_s is not None:
        patience_s = min(patience_s, _WORTHWHILE * engine_s)
    return max(0.0, min(policy.max_wait_s - age_s, patience_s - quiet_s))


class Arrivals:
    """How soon another request is to be expected while one waits; `longest_s` is not at all.

    Only arrivals that found another request waiting or running tell that. A client that asks
    again as soon as it is answered arrives often, and yet nobody could share its batch.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._was_alone = True
        self.gap_s = longest_s
        self.latest = 0.0

    def note(self, now: float, *, alone: bool) -> None:
        """A request came; `alone` says that no other was unanswered."""
        if not alone:
            gap_s = now - self.latest
            self.gap_s += ((gap_s if gap_s < self._longest_s else self._longest_s) - self.gap_s) / 8
        elif self._was_alone:  # else a burst may begin here, and tells nothing yet
            self.gap_s = self._longest_s
        self._was_alone = alone
        self.latest = now
