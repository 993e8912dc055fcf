from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from raymlops.operate.low_disk import LowDisk, Room, room_of
from tests.disks import output_on_small_disk

GIB = 1 << 30
HOME = Path("/home")


def told(total: int, *free: int, full: bool = False) -> list[tuple[bool, str]]:
    """Whether an alert fires, and how severe it is, as so much is free one look after the other."""
    rooms = iter([Room(total, each, full) for each in free])
    disk = LowDisk(HOME, lambda _: next(rooms))
    return [(signal.firing, signal.severity) for _ in free for signal in disk.look()]


def test_a_disk_is_low_with_three_percent_left() -> None:
    assert told(10 * GIB, GIB) == [(False, "warning")]
    assert told(10 * GIB, GIB // 4) == [(True, "warning")]


def test_a_large_disk_is_low_with_two_gib_left() -> None:
    assert told(8192 * GIB, 3 * GIB) == [(False, "warning")]
    assert told(8192 * GIB, GIB) == [(True, "warning")]


def test_a_full_disk_is_critical() -> None:
    assert told(10 * GIB, 0, full=True) == [(True, "critical")]


def test_a_disk_around_the_limit_is_one_episode() -> None:
    limit = int(0.03 * 10 * GIB)
    assert [firing for firing, _ in told(10 * GIB, limit - 1, limit + 1, 2 * limit, limit + 1)] == [
        True, True, False, False,
    ]  # fmt: skip


def test_it_says_whose_disk_and_how_much_is_left() -> None:
    (signal,) = LowDisk(HOME, lambda _: Room(10 * GIB, GIB // 4, full=False)).look()
    assert (signal.name, signal.model) == ("disk", "home /home")
    assert signal.summary.startswith("the disk of /home has 256 MiB left; `raymlops ledger forget-")
    (signal,) = LowDisk(HOME, lambda _: Room(10 * GIB, 0, full=True)).look()
    assert signal.summary == "the disk of /home is full: no decision and no label is taken"


def test_room_is_what_the_system_says(tmp_path: Path) -> None:
    room = room_of(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    assert room.total == usage.total
    assert room.free == pytest.approx(usage.free, rel=0.1)
    assert not room.full
    assert room.refusal is None


@pytest.mark.parametrize(
    ("options", "refusal"),
    [("remount,ro", "Read-only file system"), ("remount,nr_inodes=1", "No space left on device")],
)
def test_a_disk_with_room_may_take_no_file(options: str, refusal: str, tmp_path: Path) -> None:
    """A disk is read-only once it could not be written: nobody was told, with gigabytes free."""
    script = f"""
import subprocess, sys
from pathlib import Path
from raymlops.operate.low_disk import room_of
subprocess.run(["mount", "-o", "{options}", sys.argv[1]], check=True)
print(*room_of(Path(sys.argv[1]))[2:], sep=": ")
"""
    assert output_on_small_disk(script, tmp_path) == [f"False: {refusal}"]


def test_a_disk_that_takes_no_file_is_critical() -> None:
    room = Room(10 * GIB, GIB, full=False, refusal="Read-only file system")
    (signal,) = LowDisk(HOME, lambda _: room).look()
    assert (signal.firing, signal.severity) == (True, "critical")
    assert signal.summary == (
        "the disk of /home takes no new file, though 1,024 MiB are free: Read-only file system; "
        "see `mount` and `df -i`"
    )
