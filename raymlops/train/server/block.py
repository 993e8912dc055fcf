"""Parameters that change together: kept twice, and never seen, nor left, in the middle of a step.

    buffer 0   v0    .    v2    .        version v lies in buffer v modulo 2; a step reads the
    buffer 1    .   v1     .   v3        one and writes the other, and ends with one store of
                                         the word `committed`

The store of an aligned word is whole or not done. A process killed before it has changed nothing
that counts: who comes next finds version v, the sequence numbers that are in it, and the gradients
still in the workers' slots. The word `begun` is stored before the first write, which tells readers
of the buffer that is being written that they were too slow.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from raymlops.train.server.arena import JOURNAL_ENTRIES, MAX_WORKERS, Buffers
from raymlops.train.server.optimizers import Optimizer
from raymlops.train.server.rows import Rows, mean_rows

CHUNK_ELEMENTS = 65_536
"""What a chunk of a step touches fits a cache of 2 MB, and the calls cost little beside it."""

_RUN = 1024

Gradient = TypeVar("Gradient")


@dataclass(frozen=True, kw_only=True)
class Push(Generic[Gradient]):
    """The gradient that `worker` numbered `sequence`, counted from 1 for each block."""

    worker: int
    sequence: int
    gradient: Gradient


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One push in the order of application: it went into `version`."""

    version: int
    worker: int
    sequence: int


@dataclass(frozen=True, kw_only=True)
class BlockCopy:
    """A block on its way to another process: numbers of one version, and a HEADER."""

    version: int
    numbers: tuple[NDArray[Any], ...]
    header: bytes


class Block(ABC, Generic[Gradient]):
    """One block of a shard. `header` is a HEADER, `buffers` as the arena gives them."""

    def __init__(self, header: NDArray[Any], buffers: Buffers, optimizer: Optimizer) -> None:
        self._header = header
        self._buffers = buffers
        self._optimizer = optimizer

    @property
    def version(self) -> int:
        """How many updates are in the parameters."""
        return int(self._header["committed"])

    @property
    def sequences(self) -> NDArray[np.uint64]:
        """The last push of each worker that is in the parameters."""
        found: NDArray[np.uint64] = self._header["sequences"][self.version % 2]
        return found

    @property
    def bases(self) -> NDArray[np.int64]:
        """What is added to the sequence number of each worker to get its clock."""
        found: NDArray[np.int64] = self._header["bases"]
        return found

    def buffer(self, version: int) -> tuple[NDArray[Any], ...]:
        """Parameters and states of the optimizer at the newest version or the one before.

        They stay so until the update after the next of `version` begins.
        """
        return self._buffers[version % 2]

    def load(
        self, values: NDArray[Any], states: Sequence[NDArray[Any]] = (), version: int = 0
    ) -> None:
        """Puts the first parameters into place, and states of the optimizer that are not 0."""
        mine = self._buffers[version % 2]
        mine[0][...] = values
        for state, given in zip(mine[1:], states, strict=False):
            state[...] = given
        self._header["begun"] = version
        self._header["committed"] = version

    def copy(self) -> BlockCopy:
        """All that the newest version is made of."""
        return BlockCopy(
            version=self.version,
            numbers=tuple(each.copy() for each in self.buffer(self.version)),
            header=self._header.tobytes(),
        )

    def restore(self, copy: BlockCopy) -> None:
        """Becomes what another copy of this block was."""
        for mine, theirs in zip(self._buffers[copy.version % 2], copy.numbers, strict=True):
            mine[...] = theirs
        self._header[...] = np.frombuffer(copy.header, self._header.dtype)[0]
        self._header["committed"] = copy.version

    def update(
        self,
        pushes: Sequence[Push[Gradient]],
        confirm: Callable[[int], None] | None = None,
        *,
        factor: float = 1.0,
    ) -> int:
        """Takes one step on `factor` times the mean of the gradients, and returns the version it
        made.

        `confirm` is called with the version when it only needs to be committed.
        """
        version = self.version + 1
        target = version % 2
        self._header["begun"] = version
        self._write(target, [push.gradient for push in pushes], version, factor)
        self._note(target, pushes, version)
        if confirm is not None:
            confirm(version)
        self._header["committed"] = version
        return version

    def journal(self) -> tuple[Entry, ...]:
        """The newest pushes in the order of application, up to 65,280 of them."""
        count = int(self._header["journaled"][self.version % 2])
        # The oldest entries may be overwritten by an update that is not committed.
        first = max(0, count - (JOURNAL_ENTRIES - MAX_WORKERS))
        entries = self._header["journal"][np.arange(first, count) % JOURNAL_ENTRIES]
        return tuple(
            Entry(version=version, worker=worker, sequence=sequence)
            for version, worker, sequence in entries.tolist()
        )

    def _note(self, target: int, pushes: Sequence[Push[Gradient]], version: int) -> None:
        sequences, journaled = self._header["sequences"], self._header["journaled"]
        sequences[target] = sequences[1 - target]
        count = int(journaled[1 - target])
        for number, push in enumerate(pushes, start=count):
            entry = (version, push.worker, push.sequence)
            self._header["journal"][number % JOURNAL_ENTRIES] = entry
            sequences[target, push.worker] = push.sequence
        journaled[target] = count + len(pushes)

    @abstractmethod
    def square(self, pushes: Sequence[Push[Gradient]]) -> float:
        """The sum of the squares of the mean of the gradients."""

    @abstractmethod
    def _write(
        self, target: int, gradients: Sequence[Gradient], number: int, factor: float
    ) -> None:
        """Makes buffer `target` the other one plus step `number`."""


class DenseBlock(Block[NDArray[Any]]):
    """A range of the flat vector."""

    def __init__(self, header: NDArray[Any], buffers: Buffers, optimizer: Optimizer) -> None:
        import torch

        super().__init__(header, buffers, optimizer)
        size = len(buffers[0][0])
        self._ranges = [
            slice(start, min(start + CHUNK_ELEMENTS, size))
            for start in range(0, size, CHUNK_ELEMENTS)
        ]
        self._chunks = [
            [[torch.from_numpy(each[part]) for each in kinds] for part in self._ranges]
            for kinds in buffers
        ]
        self._mean = np.empty(min(CHUNK_ELEMENTS, size), buffers[0][0].dtype)

    def square(self, pushes: Sequence[Push[NDArray[Any]]]) -> float:
        total = 0.0
        for part in self._ranges:
            mean = self._mean[: part.stop - part.start]
            _average([push.gradient[part] for push in pushes], out=mean)
            total += _square(mean)
        return total

    def _write(
        self, target: int, gradients: Sequence[NDArray[Any]], number: int, factor: float
    ) -> None:
        import torch

        for index, part in enumerate(self._ranges):
            mean = self._mean[: part.stop - part.start]
            _average([gradient[part] for gradient in gradients], out=mean)
            if factor != 1.0:
                np.multiply(mean, factor, out=mean)
            old, new = self._chunks[1 - target][index], self._chunks[target][index]
            self._optimizer.step(old, new, torch.from_numpy(mean), number)


class RowBlock(Block[Rows]):
    """The rows of a table that lie on this shard, numbered without gaps.

    A step changes few rows, so the buffer it writes is first brought up to date by copying the
    rows of the step before; after a restart, when these are not known, by copying all.
    """

    def __init__(self, header: NDArray[Any], buffers: Buffers, optimizer: Optimizer) -> None:
        super().__init__(header, buffers, optimizer)
        self._behind: NDArray[np.int64] | None = None

    def restore(self, copy: BlockCopy) -> None:
        self._behind = None
        super().restore(copy)

    def square(self, pushes: Sequence[Push[Rows]]) -> float:
        return _square(mean_rows([push.gradient for push in pushes]).values)

    def _write(self, target: int, gradients: Sequence[Rows], number: int, factor: float) -> None:
        import torch

        behind = slice(None) if self._behind is None else self._behind
        self._behind = None  # holds should the step not reach its end
        rows = mean_rows(gradients)
        taken = []
        for old, new in zip(self._buffers[1 - target], self._buffers[target], strict=True):
            new[behind] = old[behind]
            taken.append(old[rows.keys])
        changed = [torch.from_numpy(each) for each in taken]
        gradient = torch.from_numpy(rows.values * factor)
        self._optimizer.step_rows(changed, changed, gradient, number)
        for new, values in zip(self._buffers[target], taken, strict=True):
            new[rows.keys] = values
        self._behind = rows.keys.copy()


def _square(values: NDArray[Any]) -> float:
    """The sum of squares: of short runs as they are, which costs a third of widening every number,
    and of these in float64. Where numbers are so large that such a run passes float32, all are
    widened."""
    flat = values.reshape(-1)
    stop = len(flat) // _RUN * _RUN
    runs, rest = flat[:stop].reshape(-1, _RUN), flat[stop:].astype(np.float64)
    total = float(np.einsum("ij,ij->i", runs, runs).sum(dtype=np.float64) + rest @ rest)
    if math.isinf(total):
        wide = flat.astype(np.float64)
        total = float(wide @ wide)
    return total


def _average(parts: Sequence[NDArray[Any]], *, out: NDArray[Any]) -> None:
    """The mean, summed in the order of the parts."""
    if len(parts) == 1:
        np.copyto(out, parts[0])
        return
    np.add(parts[0], parts[1], out=out)
    for part in parts[2:]:
        np.add(out, part, out=out)
    # Half of the time of a division, and the same bits where the number is a power of two.
    if len(parts) & (len(parts) - 1) == 0:
        np.multiply(out, 1 / len(parts), out=out)
    else:
        np.divide(out, len(parts), out=out)
