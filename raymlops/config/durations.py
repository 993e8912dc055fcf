"""How long a setting may be: a century says never, and is still a time that can be waited for and
added to a date, which what is infinite, or no number, is not."""

from __future__ import annotations

from datetime import timedelta

MOST_DAYS = 36_500
MOST_S = MOST_DAYS * 24 * 60 * 60


def check_durations(settings: object, *names: str, may_be_zero: bool = False) -> None:
    """Returns quietly when each of these fields, in days, seconds or a timedelta as its name and
    type say, is positive and no more than a century.

    Raises:
        ValueError: one is not; says which, its value and the most there may be.
    """
    for name in names:
        value = getattr(settings, name)
        most = MOST_DAYS if name.endswith("_days") else MOST_S
        given = value / timedelta(seconds=1) if isinstance(value, timedelta) else value
        if may_be_zero and given == 0:
            continue
        if not 0 < given <= most:
            least = "0 or more" if may_be_zero else "positive"
            shown = f"{MOST_DAYS} days" if isinstance(value, timedelta) else most
            raise ValueError(f"{name} is {value}, it must be {least}, and at most {shown}")
