"""The copies of folders that Ray makes on its nodes, for jobs to run in."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

from raymlops.errors import ClusterError, ConfigError

_logger = logging.getLogger(__name__)

# Gitignore patterns. Secrets do not travel: Ray keeps what it was given, and shows it to every job.
_NEVER = (
    ".env",
    "/secrets",
    ".git",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    ".*_cache",
)
# Ray uploads at most 100 MiB; data and models travel through storage.
_LARGE = (
    "/data",
    "/mlruns",
    "*.parquet",
    "*.csv.gz",
    "*.onnx",
    "*.pt",
    "*.safetensors",
    "*.db",
)

_NUM_NAMES = 5

_COPIES = ("runtime_resources", "working_dir_files")


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A folder whose copy a job runs in: all of it but `excludes`, gitignore patterns.

    `taken` are the files and folders that travel, `left_out` those that look like data or models
    and stay, a folder for all that is in it.
    """

    folder: Path
    excludes: tuple[str, ...]
    taken: frozenset[Path]
    left_out: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path, *, home: Path, include: Sequence[str] = ()) -> Upload:
        """All of `folder` but secrets, tools, `home`, and of what is large what `include` lacks.

        Raises:
            ClusterError: a pattern of `include` is of nothing that then travels.
        """
        folder = folder.absolute()
        own = (f"/{home.relative_to(folder)}",) if folder in home.parents else ()
        never = (*_NEVER, *own)
        excludes = (*_LARGE, *chain.from_iterable(map(_negated, include)), *never)
        taken = _travelling(folder, excludes)
        left_out = _topmost(_travelling(folder, never) - taken)
        upload = cls(folder=folder, excludes=excludes, taken=taken, left_out=left_out)
        for pattern in include:
            if not any(map(_matcher(folder, [pattern]), taken)):
                raise ClusterError(
                    f"--include {pattern}: no such thing can travel with the job; what looks like "
                    f"data or models in {folder} is: {upload.names or 'nothing'}"
                )
        return upload

    @property
    def names(self) -> str:
        """The first that are left out, and how many more."""
        names = [str(path.relative_to(self.folder)) for path in self.left_out]
        more = len(names) - _NUM_NAMES
        return ", ".join(names[:_NUM_NAMES]) + (f" and {more} more" if more > 0 else "")

    def check(self, script: Path, args: Sequence[str]) -> None:
        """Raises ClusterError when the script, or a file that `args` name, does not travel."""
        path = self.folder / script
        if not script.is_absolute() and not path.is_file():
            raise ClusterError(f"there is no script {script} in {self.folder}")
        for name in (str(script), *(arg.rpartition("=")[2] for arg in args)):
            path = Path(os.path.normpath(self.folder / name))
            # Unlike a Path, os.path takes texts that are too long for the name of a file.
            if os.path.isabs(name) or not os.path.isfile(path) or path in self.taken:
                continue
            if any(path.is_relative_to(left_out) for left_out in self.left_out):
                raise ClusterError(
                    f"{name} stays here, since it looks like data or models: give an absolute path "
                    "that the cluster reads, or take it along with --include"
                )
            raise ClusterError(
                f"{name} stays here: it lies outside {self.folder}, is a secret, or .gitignore or "
                ".rayignore names it; give an absolute path that the cluster reads"
            )


def refuse_upload(home: Path) -> None:
    """Returns quietly unless `home` lies in such a copy, which Ray deletes once no job needs it.

    Raises:
        ConfigError: it does.
    """
    home = home.absolute()
    if _COPIES in pairwise(home.parts):
        raise ConfigError(
            f"home is {home}, in the copy of a folder that Ray deletes after the job: give the "
            "script --home, or set home, as an absolute path"
        )


def _travelling(folder: Path, excludes: Sequence[str]) -> frozenset[Path]:
    """What Ray takes along, by these patterns and by its own reading of .gitignore."""
    from ray._private.runtime_env.packaging import _dir_travel

    found: set[Path] = set()
    _dir_travel(
        folder,
        [_matcher(folder, excludes)],
        found.add,
        include_gitignore=os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") != "1",
        logger=_logger,
    )
    return frozenset(found)


def _matcher(folder: Path, patterns: Sequence[str]) -> Callable[[Path], bool]:
    """Whether a path in `folder` is one of `patterns`."""
    from ray._private.runtime_env.packaging import _get_excludes

    matches: Callable[[Path], bool] = _get_excludes(folder, list(patterns))
    return matches


def _negated(pattern: str) -> tuple[str, str]:
    """Patterns that take back what excluded `pattern`, a folder with all that is in it."""
    name = pattern.removesuffix("/")
    return f"!{name}", f"!{name}/**"


def _topmost(paths: Collection[Path]) -> tuple[Path, ...]:
    """Those that lie in no other one, in order."""
    return tuple(sorted(path for path in paths if path.parent not in paths))
