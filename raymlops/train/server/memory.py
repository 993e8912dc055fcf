"""Memory that processes of one node share, without a name that could outlive them."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)
Spec = tuple[tuple[int, ...], np.dtype[Any]]


class SharedMemory:
    """Anonymous memory (memfd) of the node, held by whoever has its descriptor or a view of it.

    It is in no file system: the kernel frees it when the last holder ends, killed or not, and the
    limits of /dev/shm, 64 MB in a plain container, do not bind it. Pages take room once they are
    written.
    """

    def __init__(self, descriptor: int, *, writable: bool = True) -> None:
        """Takes over `descriptor`."""
        self.descriptor = descriptor
        self.size_bytes = os.fstat(descriptor).st_size
        self._map = mmap.mmap(
            descriptor, self.size_bytes, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        )
        # Fewer, larger pages where the kernel allows it for shared memory; else no effect.
        self._map.madvise(mmap.MADV_HUGEPAGE)

    @classmethod
    def create(cls, size_bytes: int) -> SharedMemory:
        descriptor = os.memfd_create("raymlops-parameters", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, max(size_bytes, 1))
        return cls(descriptor)

    @classmethod
    def of_process(cls, pid: int, descriptor: int) -> SharedMemory:
        """The memory that process `pid`, of the same user and node, holds as `descriptor`."""
        return cls(os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC))

    def array(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A view; the memory stays mapped as long as there is one."""
        return np.ndarray(shape, dtype, self._map, offset)

    def close(self) -> None:
        """Gives up the descriptor, once. Views stay valid."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Layout(Generic[Key]):
    """Arrays one after the other, each from a page boundary on, by key."""

    def __init__(self, arrays: Mapping[Key, Spec]) -> None:
        self._arrays = dict(arrays)
        self._offsets: dict[Key, int] = {}
        self.size_bytes = 0
        for key, (shape, dtype) in self._arrays.items():
            self._offsets[key] = self.size_bytes
            used = math.prod(shape) * dtype.itemsize
            self.size_bytes += math.ceil(used / mmap.PAGESIZE) * mmap.PAGESIZE

    def view(self, memory: SharedMemory, key: Key) -> NDArray[Any]:
        """The array `key`, where it lies in `memory`."""
        return memory.array(self._offsets[key], *self._arrays[key])
