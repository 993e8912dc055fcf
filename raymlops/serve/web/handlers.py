"""Who answers a request: handlers, and those that choose among others by its head."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from raymlops.errors import RequestError
from raymlops.serve.web.messages import Request, Response

_logger = logging.getLogger(__name__)

Reply = Callable[[Response], None]
Handler = Callable[[Request, Reply], None]
Refused = Callable[[Request, Response], None]
"""Is told of a request that was answered with an error before any handler had it."""


class Sorting(ABC):
    """A handler that tells by the head of a request alone who answers it.

    A server that reads the same head again and again need ask only once.
    """

    @abstractmethod
    def sort(self, head: Request) -> Handler:
        """Who answers a request with that head, whose `params` are filled in."""

    def __call__(self, request: Request, reply: Reply) -> None:
        self.sort(request)(request, reply)


def sorted_out(handler: Handler, head: Request) -> Handler:
    """Who answers a request with that head in the end."""
    while isinstance(handler, Sorting):
        handler = handler.sort(head)
    return handler


async def answered(handler: Handler, request: Request) -> Response:
    """What `handler` replies; it is told when nobody waits for that any more."""
    answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def reply(response: Response) -> None:
        if not answer.cancelled():
            answer.set_result(response)

    handler(request, reply)
    try:
        return await answer
    finally:
        if answer.cancelled():
            request.abandon()


def later(handle: Callable[[Request], Awaitable[Response]]) -> Handler:
    """A handler that awaits `handle` in a task, which ends when the client leaves."""
    tasks: set[asyncio.Task[None]] = set()

    async def answer(request: Request, reply: Reply) -> None:
        try:
            response = await handle(request)
        except RequestError as error:
            response = Response.refusal(error)
        except Exception:  # as in `Routes`
            _logger.exception("%s %s failed", request.method, request.path)
            response = Response.error(500, "internal error, logged")
        reply(response)

    def handler(request: Request, reply: Reply) -> None:
        task = asyncio.get_running_loop().create_task(answer(request, reply))
        tasks.add(task)  # the loop itself would let it be collected
        task.add_done_callback(tasks.discard)

        def stop() -> None:
            task.cancel()

        request.on_gone = stop

    return handler


def untold(_: Request, __: Response) -> None:
    """In place of who is told of what is refused."""
