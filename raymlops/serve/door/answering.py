"""What the door answers itself: what no replica can, and whom none takes in time."""

from __future__ import annotations

from msgspec.structs import replace

from raymlops.serve.door.tasks import Tasks
from raymlops.serve.door.waiting import Visitor
from raymlops.serve.http import Belongs, HandOver, HttpLimits, HttpServer
from raymlops.serve.web import Handler, Reply, Request, Response


class Answering:
    """Serves connections by `handler`, until one asks for what does not belong to the door.

    Such a one is handed over by `hand_over`.
    """

    def __init__(
        self,
        handler: Handler,
        limits: HttpLimits,
        *,
        belongs: Belongs,
        hand_over: HandOver,
        tasks: Tasks,
    ) -> None:
        self._own = HttpServer(handler, limits, belongs=belongs, hand_over=hand_over)
        self._last = HttpServer(_for_the_last_time(handler), limits)
        self._sorry = HttpServer(_say_later, limits)
        self._tasks = tasks

    def start(self) -> None:
        for server in self._servers:
            server.start()

    def stop(self) -> None:
        for server in self._servers:
            server.stop()

    def answer(self, visitor: Visitor) -> None:
        """Whatever the client asks, while it belongs here."""
        self._adopt(self._own, visitor)

    def answer_once(self, visitor: Visitor) -> None:
        """After which the client has to connect anew."""
        self._adopt(self._last, visitor)

    def say_later(self, visitor: Visitor) -> None:
        """No replica came in time, or has room: 503."""
        self._adopt(self._sorry, visitor)

    @property
    def _servers(self) -> tuple[HttpServer, ...]:
        return self._own, self._last, self._sorry

    def _adopt(self, server: HttpServer, visitor: Visitor) -> None:
        self._tasks.start(server.adopt(visitor.connection, visitor.read))


def _for_the_last_time(handler: Handler) -> Handler:
    """Answers as `handler` does, and closes."""

    def handle(request: Request, reply: Reply) -> None:
        handler(request, lambda response: reply(replace(response, closes=True)))

    return handle


def _say_later(request: Request, reply: Reply) -> None:
    message = f"no replica answers for {request.path} at the moment; try again"
    reply(replace(Response.error(503, message, ("retry-after", "1")), closes=True))
