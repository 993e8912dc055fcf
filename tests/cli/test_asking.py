from __future__ import annotations

import pytest

from raymlops.cli.asking import RowsTold


def test_rows_that_are_done_are_told_every_so_often(capsys: pytest.CaptureFixture[str]) -> None:
    """A long prediction stood there without a word until its end."""
    times = iter([0.0, 1.0, 10.0, 10.0, 19.0, 21.0, 21.0])
    tell = RowsTold(lambda: next(times))
    for num_done in (1_000, 2_000, 3_000, 4_000):
        tell(num_done, 5_000)
    assert capsys.readouterr().err == "2,000 of 5,000 rows\n4,000 of 5,000 rows\n"
