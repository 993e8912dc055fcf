"""How fast an engine is: by size of batch, and in rows a second."""

from __future__ import annotations

from collections.abc import Mapping


class EngineSpeed:
    """What was measured in calm, when the engine was warmed up, and what traffic showed since.

    `warm` holds seconds by number of rows. Only those foretell how long a run takes: in a thread
    of a busy process a run of microseconds waits milliseconds for its turn, which is no property
    of the engine.
    """

    def __init__(self, warm: Mapping[int, float] | None = None) -> None:
        self._warm = sorted((warm or {}).items())
        self._rows = 0.0
        self._seconds = 0.0

    def expected_s(self, num_rows: int) -> float | None:
        """Seconds that a run takes; None when nothing was measured.

        Between two measured sizes it is what the larger takes; beyond, in proportion.
        """
        for size, seconds in self._warm:
            if num_rows <= size:
                return seconds
        if not self._warm:
            return None
        size, seconds = self._warm[-1]
        return seconds * num_rows / size

    def note(self, num_rows: int, seconds: float) -> None:
        """A batch took so long; the last twenty or so count."""
        self._rows += num_rows - self._rows / 16
        self._seconds += seconds - self._seconds / 16

    @property
    def rows_per_s(self) -> float | None:
        """As traffic shows it, else as the warm-up did; None when nothing is known."""
        if self._seconds > 0:
            return self._rows / self._seconds
        if self._warm and self._warm[-1][1] > 0:
            return self._warm[-1][0] / self._warm[-1][1]
        return None
