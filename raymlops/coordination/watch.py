"""States that follow one another, waited for without polling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from raymlops.coordination.deadline import Deadline

T = TypeVar("T")
U = TypeVar("U")


class Watch(Generic[T]):
    """First the present state, then each newer one.

    States that are replaced before they are asked for may be skipped; the latest never is.
    `wait` returns, perhaps for nothing, once the state may differ from what `read` gave last.
    """

    def __init__(self, *, read: Callable[[], T], wait: Callable[[Deadline], None]) -> None:
        self._read = read
        self._wait = wait
        self._seen: object = _NOTHING

    def next(self, *, timeout_s: float | None = None) -> T:
        """Raises TimeoutError when nothing new came within `timeout_s`; None waits for ever."""
        deadline = Deadline(timeout_s)
        while (state := self._read()) == self._seen:
            self._wait(deadline)
        self._seen = state
        return state

    def __iter__(self) -> Iterator[T]:
        while True:
            yield self.next()

    def map(self, convert: Callable[[T], U]) -> Watch[U]:
        """The same states, each as `convert` gives it."""
        return Watch(read=lambda: convert(self._read()), wait=self._wait)


_NOTHING = object()  # equal to no state
