"""What is said to a connection's machine, and what it said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raymlops.serve.http.encode import Encoder
from raymlops.serve.http.limits import HttpLimits
from raymlops.serve.http.machine import Machine
from raymlops.serve.web import Reply, Request, Response

LIMITS = HttpLimits(max_head_bytes=400, max_headers=8, max_body_bytes=1000)
HEAD = b"POST /infer HTTP/1.1\r\nHost: a\r\n"


@dataclass
class Talk:
    """A machine, what it wrote, and the requests its handler was given."""

    answers_at_once: bool = True
    written: bytes = b""
    asked: list[tuple[Request, Reply]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.machine = Machine(
            self.handle,
            self.write,
            lambda: None,
            encoder=Encoder(0.0),
            **{"limits": LIMITS, **self.options},
        )

    def write(self, data: bytes) -> None:
        self.written += data

    def handle(self, request: Request, reply: Reply) -> None:
        self.asked.append((request, reply))
        if self.answers_at_once:
            reply(Response(200, b"%s %s" % (request.path.encode(), request.body), "text/plain"))

    def feed(self, *parts: bytes) -> Talk:
        for part in parts:
            self.machine.feed(part)
        return self

    @property
    def answers(self) -> list[tuple[int, bytes, bool]]:
        """Status, body and whether the connection ends, of each answer that was written."""
        found, rest = [], self.written
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
            size = int(fields.get(b"content-length", b"0"))
            found.append((int(lines[0].split()[1]), rest[:size], b"connection" in fields))
            rest = rest[size:]
        return found
