"""A whole number that many processes add to."""

from __future__ import annotations

from raymlops.coordination.base import KeyValue


class Counter:
    """Starts at 0; every addition counts exactly once, however many add at the same time."""

    def __init__(self, name: str, values: KeyValue) -> None:
        self._name = name
        self._values = values

    def value(self) -> int:
        entry = self._values.get(self._name)
        return int(entry.value) if entry else 0

    def add(self, amount: int = 1) -> int:
        """The value after this addition.

        Raises:
            CoordinationError: the session ended during the write; the message says whether the
                addition may have counted.
        """
        while True:
            entry = self._values.get(self._name)
            value, version = (int(entry.value), entry.version) if entry else (0, 0)
            total = value + amount
            if self._values.compare_and_set(self._name, b"%d" % total, version=version):
                return total
