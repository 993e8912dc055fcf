"""What is wrong with settings, gathered so that all of it is told at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from raymlops.errors import ConfigError


class Problems:
    """Lines of one error to come.

    for path in paths:
        with problems.gathered():
            layers.append(file_layer(path))
    problems.raise_any()
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        self._lines.append(line)

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """Keeps the ConfigError that ends the block, for `raise_any`."""
        try:
            yield
        except ConfigError as error:
            self._lines.append(str(error))

    def raise_any(self) -> None:
        """Raises a ConfigError of all lines, unless there are none."""
        if self._lines:
            raise ConfigError("\n".join(self._lines))
