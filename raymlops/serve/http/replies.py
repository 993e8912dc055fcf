"""The answers of a connection, written in the order of its requests, whenever each comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from raymlops.serve.http.encode import CONTINUE, Encoder
from raymlops.serve.web import Request, Response


class Replies:
    """A place for each request that was begun, in `slots` until it is answered.

    `settle` is called after what was due has been written, `end` when the last answer there will
    be is written; `is_closing` says that no request follows those that are here.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        settle: Callable[[], None],
        end: Callable[[], None],
        encoder: Encoder,
    ) -> None:
        self.is_closing = False
        self._write = write
        self._settle = settle
        self._end = end
        self._encoder = encoder
        self.slots: deque[Slot] = deque()

    def open(self, request: Request | None = None) -> Slot:
        """The place of the next answer."""
        slot = Slot(self, request, request is not None and request.method == "HEAD")
        self.slots.append(slot)
        return slot

    def answer(self, slot: Slot, response: Response) -> None:
        """Writes `response` when all before it are, and what waited for that behind it."""
        slot.is_answered = True
        slots = self.slots
        if not slots or slots[0] is not slot:
            slot.response = response
            return
        while True:
            if response.closes:
                self._forget_after(slot)
            last = slot.closes or (self.is_closing and len(slots) == 1)
            if last:
                self._end()
            self._write(self._encoder.encode(response, close=last, head_only=slot.is_head))
            slots.popleft()
            if not slots:
                break
            slot = slots[0]
            if slot.response is None:
                self.proceed()
                break
            response = slot.response
        self._settle()

    def proceed(self) -> None:
        """Says that a body may come, once its answer would be the next."""
        slot = self.slots[0]
        if slot.continues:
            slot.continues = False
            self._write(CONTINUE)

    def lose(self) -> None:
        """Nobody waits for any of them: whoever works on one is told."""
        while self.slots:
            self.slots.pop().forget()
        self._write = self._settle = self._end = _nobody

    def _forget_after(self, last: Slot) -> None:
        """The client gets no answer beyond `last`, and may ask again elsewhere."""
        last.closes = True
        while self.slots[-1] is not last:
            self.slots.pop().forget()


class Slot(msgspec.Struct, eq=False):
    """The place of an answer among those of its connection."""

    replies: Replies
    request: Request | None
    is_head: bool
    response: Response | None = None
    refusal: Response | None = None
    closes: bool = False
    continues: bool = False
    is_answered: bool = False

    def reply(self, response: Response) -> None:
        """Answers; once more is a handler's mistake, and changes nothing."""
        if not self.is_answered:
            self.replies.answer(self, response)

    def forget(self) -> None:
        self.is_answered = True
        if self.request is not None:
            self.request.abandon()


def _nobody(*_: object) -> None:
    """In place of who has gone."""
