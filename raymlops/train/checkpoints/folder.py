"""Where checkpoints lie, whatever is in them.

FOLDER/step-00000040/...            what the workers write
                     complete.json  written last: without it there is no checkpoint; the progress,
                                    and sizes and digests of all files
FOLDER/damaged-00000040/...         what was one, and is not whole any more
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from raymlops.errors import LedgerError, TrainingError
from raymlops.storage.local import replace
from raymlops.train.checkpoints.digest import digest, digest_of_file
from raymlops.train.loop.progress import Progress
from raymlops.train.spec import CheckpointPolicy

_COMPLETE = "complete.json"
_PREFIX = "step-"
_DAMAGED = "damaged-"
_FILES = "files"
_DIGESTS = "digests"

_logger = logging.getLogger(__name__)


class CheckpointFolder:
    """The checkpoints of one training by their step, in a folder that every node reaches."""

    def __init__(self, folder: Path, policy: CheckpointPolicy) -> None:
        self.folder = folder
        self._policy = policy

    def is_due(self, step: int) -> bool:
        return self._policy.every_steps > 0 and step % self._policy.every_steps == 0

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, oldest first; of those whose files were cut short
        or removed there is none."""
        return sorted(
            int(path.parent.name.removeprefix(_PREFIX))
            for path in self.folder.glob(f"{_PREFIX}*/{_COMPLETE}")
            if _harm(path) is None
        )

    def remains(self) -> list[Path]:
        """The folders of all checkpoints, damaged ones and halves among them."""
        return sorted(
            path for prefix in (_PREFIX, _DAMAGED) for path in self.folder.glob(f"{prefix}*")
        )

    def harms(self) -> dict[Path, str]:
        """What is wrong with those that were published and are not whole any more, by folder."""
        found = {path.parent: _harm(path) for path in self.folder.glob(f"{_PREFIX}*/{_COMPLETE}")}
        return {
            path: harm
            for path, harm in sorted(found.items())
            if harm is not None and (path / _COMPLETE).exists()  # else it was just removed
        }

    def damage(self, step: int) -> str | None:
        """What is wrong within the files of a complete checkpoint, None if nothing is; reads all of
        it. Of one that kept no digests, as those of before, nothing is known."""
        path = self.path(step)
        try:
            found = json.loads((path / _COMPLETE).read_text())
            digests: dict[str, int] = found.pop(_DIGESTS, {})
            if digests and digests.pop(_COMPLETE) != digest(json.dumps(found).encode()):
                return f"{_COMPLETE} does not say what was written"
            for name, kept in digests.items():
                if digest_of_file(path / name) != kept:
                    return f"{name} does not hold what was written"
            self.progress(step)
        except OSError as error:
            return f"{error.filename or path} cannot be read: {error.strerror}"
        except (ValueError, TypeError, KeyError) as error:
            return f"{_COMPLETE} cannot be read: {error}"
        return None

    def path(self, step: int) -> Path:
        return self.folder / f"{_PREFIX}{step:08d}"

    def begin(self, step: int) -> Path:
        """An empty folder for a checkpoint; an attempt that was killed may have left half of it."""
        path = self.path(step)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def discard(self, step: int) -> None:
        """Removes what was written of a checkpoint: half of one fills the disk on which its failure
        is to be recorded."""
        shutil.rmtree(self.path(step), ignore_errors=True)

    @contextlib.contextmanager
    def discarding(self, step: int) -> Iterator[None]:
        """Discards the checkpoint if the disk, or the ledger, takes no more in the block."""
        try:
            yield
        except (OSError, LedgerError):
            self.discard(step)
            raise

    def clear(self) -> None:
        """Removes the folders of checkpoints that were begun and not published, and sets aside
        those that were damaged since; of whole ones the newest is read."""
        for path in self.folder.glob(f"{_PREFIX}*"):
            if not (path / _COMPLETE).exists():
                shutil.rmtree(path, ignore_errors=True)
        for path, harm in self.harms().items():
            _set_aside(path, harm)
        for step in reversed(self.steps()):
            if (damage := self.damage(step)) is None:
                return
            _set_aside(self.path(step), damage)

    def publish(self, progress: Progress, written: Mapping[str, int]) -> None:
        """Makes what was written, files of these names and digests, a checkpoint, and removes those
        that are too old.

        Raises:
            TrainingError: not all of it is there any more.
        """
        path = self.path(progress.step)
        try:
            sizes = {name: (path / name).stat().st_size for name in written}
            told = {**progress.to_dict(), _FILES: sizes}
            digests = {**written, _COMPLETE: digest(json.dumps(told).encode())}
            text = json.dumps({**told, _DIGESTS: digests}, indent=2)
            # Makes no folder: one that was removed must not come back with this file alone.
            replace(path / _COMPLETE, [text.encode()], staging=path, durable=True)
        except FileNotFoundError as error:
            raise TrainingError(
                f"the checkpoint of step {progress.step} was removed from {self.folder} while it "
                f"was written ({error}): another training goes on in that folder, or somebody "
                "cleaned it up; end all but one, and resume that"
            ) from error
        _logger.info("checkpoint of step %d in %s", progress.step, path)
        for old in self.steps()[: -self._policy.keep]:
            doomed = self.path(old)
            os.unlink(doomed / _COMPLETE)  # first, so that nobody takes half of it for a whole
            shutil.rmtree(doomed, ignore_errors=True)

    def progress(self, step: int) -> Progress:
        found = json.loads((self.path(step) / _COMPLETE).read_text())
        for kept in (_FILES, _DIGESTS):
            found.pop(kept, None)
        return Progress.from_dict(found)


def _set_aside(path: Path, harm: str) -> None:
    aside = path.with_name(path.name.replace(_PREFIX, _DAMAGED))
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    _logger.warning("a checkpoint is damaged, and now in %s: %s", aside, harm)


def _harm(complete: Path) -> str | None:
    """What is wrong with a checkpoint that was published, None if nothing is. Of one that kept no
    sizes of its files, as those of before, nothing more is known."""
    try:
        sizes: dict[str, int] = json.loads(complete.read_text()).get(_FILES, {})
        for name, size in sizes.items():
            found = complete.with_name(name).stat().st_size
            if found != size:
                return f"{name} has {found:,} bytes, and had {size:,}"
    except FileNotFoundError as error:
        return f"{error.filename} is not there"
    except ValueError as error:
        return f"{complete.name} cannot be read: {error}"
    return None
