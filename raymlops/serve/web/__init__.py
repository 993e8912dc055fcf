"""A request and its answer as plain values, and who answers, whichever server carries them.

    server --Request--> Routes --> handler ... --Response--> reply --> server

A handler calls `reply` exactly once, now or later, from the event loop it was called on. Callbacks
rather than coroutines, since a task a request would cost more than everything else that is done
for it; `later` makes a handler of a coroutine where that does not matter. Two servers speak this:
`raymlops.serve.web.asgi`, behind Ray Serve's proxy, and `raymlops.serve.http`, on a port of its
own. Around a handler stand `cors`, `inflation` and `traced`.
"""

from raymlops.serve.web.admission import Admit, Admitting, Ticket, ticket_of, welcome
from raymlops.serve.web.handlers import (
    Handler,
    Refused,
    Reply,
    Sorting,
    answered,
    later,
    sorted_out,
    untold,
)
from raymlops.serve.web.messages import Request, Response, unicode_of
from raymlops.serve.web.routes import LONGEST_REMEMBERED, Routes

__all__ = [
    "LONGEST_REMEMBERED",
    "Admit",
    "Admitting",
    "Handler",
    "Refused",
    "Reply",
    "Request",
    "Response",
    "Routes",
    "Sorting",
    "Ticket",
    "answered",
    "later",
    "sorted_out",
    "ticket_of",
    "unicode_of",
    "untold",
    "welcome",
]
