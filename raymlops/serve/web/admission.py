"""Who is let in, by the head of a request alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from raymlops.serve.web.messages import Request, Response

Admit = Callable[[Request], Response | None]
"""Refuses a request by its head alone, before any of its body is read; None lets it in."""
Ticket = Callable[[], Response | None]
"""Whether a request with a certain head is let in now, as `Admit` tells it."""


class Admitting(ABC):
    """An `Admit` that reads a head once, and is asked about it whenever that comes again."""

    @abstractmethod
    def ticket(self, head: Request) -> Ticket:
        """For requests with that head; what it says may change with time."""

    def __call__(self, request: Request) -> Response | None:
        return self.ticket(request)()


def ticket_of(admit: Admit | None, head: Request) -> Ticket:
    """Whether `admit` lets requests with that head in."""
    if admit is None:
        return welcome
    return admit.ticket(head) if isinstance(admit, Admitting) else partial(admit, head)


def welcome() -> None:
    """The ticket where nobody is refused."""
