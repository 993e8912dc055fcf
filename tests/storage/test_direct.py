"""Writes past the page cache, and what becomes of them where the file system has none."""

from __future__ import annotations

import errno
import logging
import mmap
import os
import re
from pathlib import Path

import numpy as np
import pytest

from raymlops.storage import direct
from raymlops.storage.direct import paged_memory, write_direct

TEXT = Path(__file__).read_bytes() * 9  # some pages, and not all of the last


def paged(content: bytes) -> mmap.mmap:
    memory = paged_memory(len(content))
    memory[: len(content)] = content
    return memory


def test_a_file_is_as_long_as_its_content(tmp_path: Path) -> None:
    for size_bytes in (0, 1, mmap.PAGESIZE, mmap.PAGESIZE + 1, len(TEXT)):
        write_direct(tmp_path / "part", paged(TEXT[:size_bytes]), size_bytes)
        assert (tmp_path / "part").read_bytes() == TEXT[:size_bytes]


def test_a_longer_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(TEXT * 2)
    write_direct(tmp_path / "part", paged(TEXT), len(TEXT))
    assert (tmp_path / "part").read_bytes() == TEXT


def test_a_file_system_without_direct_writes_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = os.open

    def refusing(path: Path, flags: int, mode: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")  # as tmpfs did before Linux 6.6
        return opened(path, flags, mode)

    monkeypatch.setattr(direct.os, "open", refusing)
    with caplog.at_level(logging.INFO):
        write_direct(tmp_path / "part", paged(TEXT), len(TEXT))
    assert (tmp_path / "part").read_bytes() == TEXT
    assert "part is written through the page cache" in caplog.text


def test_a_disk_with_larger_pages_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written = os.pwrite

    def refusing(file: int, piece: memoryview, offset: int) -> int:
        if direct._is_direct(file) and offset:
            raise OSError(errno.EINVAL, "Invalid argument")
        return written(file, piece, offset)

    monkeypatch.setattr(direct, "_PIECE_BYTES", mmap.PAGESIZE)
    monkeypatch.setattr(direct.os, "pwrite", refusing)
    with caplog.at_level(logging.INFO):
        write_direct(tmp_path / "part", paged(TEXT), len(TEXT))
    assert (tmp_path / "part").read_bytes() == TEXT
    assert caplog.text.count("the disk refused a page") == 1


def test_a_write_that_ends_early_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = os.pwrite
    monkeypatch.setattr(
        direct.os, "pwrite", lambda file, piece, at: written(file, memoryview(piece)[:512], at)
    )
    write_direct(tmp_path / "part", paged(TEXT), len(TEXT))
    assert (tmp_path / "part").read_bytes() == TEXT


def test_a_full_disk_is_an_error() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_direct(Path("/dev/full"), paged(TEXT), len(TEXT))


def test_shared_memory_can_be_written() -> None:
    path = Path("/dev/shm") / f"raymlops-direct-{os.getpid()}"
    try:
        write_direct(path, paged(TEXT), len(TEXT))
        assert path.read_bytes() == TEXT
    finally:
        path.unlink()


def flags_of(address: int) -> list[str]:
    """What Linux says of the memory there."""
    is_there = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            is_there = int(found[1], 16) <= address < int(found[2], 16)
        elif is_there and line.startswith("VmFlags:"):
            return line.split()[1:]
    raise AssertionError(f"nothing lies at {address:x}")


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="needs Linux' large pages"
)
def test_memory_is_of_large_pages_where_the_system_has_them() -> None:
    memory = paged_memory(8 << 20)
    assert "hg" in flags_of(np.frombuffer(memory, np.uint8).ctypes.data)  # as madvise sets it
