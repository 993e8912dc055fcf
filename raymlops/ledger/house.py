"""How a house of the ledger is reached from where its database is not.

The methods of a house fall in two. Most are carried out beside the database. Those marked
`composed` only put others together, or start something in the caller's process: they are carried
out where they are called, and what they call goes to the database.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

_Method = TypeVar("_Method", bound=Callable[..., Any])
_House = TypeVar("_House")

_MARK = "__composed__"


class Line(Protocol):
    """The way to the process beside the database."""

    def call(self, house: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `method` of `house` returns there; what it raises there is raised here."""
        ...


def composed(method: _Method) -> _Method:
    """Marks a method that is carried out where it is called."""
    setattr(method, _MARK, True)
    return method


def far(house: type[_House], line: Line) -> _House:
    """A `house` whose methods, but the composed ones, are carried out at the end of `line`."""
    forwarded = {
        name: _forward(house.__name__, name, method)
        for name, method in inspect.getmembers(house, inspect.isfunction)
        if not name.startswith("_") and not hasattr(method, _MARK)
    }
    made: _House = type(f"Far{house.__name__}", (house,), forwarded)(line)
    return made


def _forward(house: str, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        line: Line = self._database
        return line.call(house, name, args, kwargs)

    return forward
