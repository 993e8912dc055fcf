"""Engines whose failures do not quote what they were given."""

from __future__ import annotations

from collections.abc import Callable

from raymlops.data import Columns
from raymlops.errors import RequestError
from raymlops.serve.batching import Outputs


class Discreet:
    """`run`, whose own errors are replaced by what kind they are and where they were raised.

    Libraries quote values ("could not convert string to float: 'Smith'"), and a replica logs what
    its engine raised. What is meant for clients is raised as it is.
    """

    def __init__(self, run: Callable[[Columns], Outputs]) -> None:
        self._run = run

    def __call__(self, columns: Columns) -> Outputs:
        try:
            return self._run(columns)
        except RequestError:
            raise
        except Exception as error:
            told = RuntimeError(
                f"{type(error).__name__}, whose message may quote what serve.log.hidden names"
            )
            raise told.with_traceback(error.__traceback__) from None
