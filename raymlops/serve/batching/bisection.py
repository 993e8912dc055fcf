"""Finding the requests of a batch that make it fail, in few runs of the engine.

One poisoned request among 8 (x fails, o succeeds, - is known to fail without a run):

    oooooxoo  x
    oooo      o                  answered
        -xoo  -                  the culprit is in here, since the other half was fine
        ox    x
          oo  o                  answered
        o     o                  answered
         x    x                  the culprit, which fails alone
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from raymlops.errors import EngineError

T = TypeVar("T")
R = TypeVar("R")


def isolate(
    run: Callable[[Sequence[T]], R], batch: Sequence[T], *, must_fail: bool = False
) -> Generator[tuple[Sequence[T], R | Exception], None, bool]:
    """Yields parts of `batch`, each with what `run` returned, or one item with what it raised.

    One culprit among n costs at most 2 log2(n) + 1 runs, 1.5 log2(n) + 1.5 on average. An engine
    that has died fails whatever it had: that is no item's fault and is not looked into.

    Returns:
        Whether nothing failed.
    """
    if not must_fail or len(batch) == 1:
        try:
            result = run(batch)
        except Exception as error:  # whatever an engine raises belongs to those who wait for it
            if len(batch) == 1 or isinstance(error, EngineError):
                yield batch, error
                return False
        else:
            yield batch, result
            return True
    middle = len(batch) // 2
    fine = yield from isolate(run, batch[:middle])
    yield from isolate(run, batch[middle:], must_fail=fine)
    return False
