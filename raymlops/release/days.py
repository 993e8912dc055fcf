"""Days of event time, as settings give them."""

from __future__ import annotations

MOST_DAYS = 36_500
"""A century says never, and is still a difference of two dates that there are."""
