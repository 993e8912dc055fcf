"""Where a run comes from: the commit, what differed from it, and the packages installed."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path

from raymlops.ledger.records import Code

NO_COMMIT = "none"


def code_at(folder: Path) -> Code:
    """The commit checked out in `folder`, with a digest of uncommitted changes.

    Outside a git checkout, and where git does not tell, the commit is "none" and the digest covers
    the Python files that lie in `folder` itself.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "diff", "HEAD", "--binary")
        untracked = _git(folder, "ls-files", "--others", "--exclude-standard", "-z")
    except (FileNotFoundError, subprocess.SubprocessError):
        return Code(commit=NO_COMMIT, dirty_digest=_digest_of_files(folder))
    if not changes and not untracked:
        return Code(commit=commit.decode().strip(), dirty_digest=None)
    digest = hashlib.sha256(changes)
    for name in sorted(untracked.split(b"\0")):
        path = folder / os.fsdecode(name)
        if name and path.is_file():
            digest.update(name + b"\0" + path.read_bytes())
    return Code(commit=commit.decode().strip(), dirty_digest=digest.hexdigest())


def environment() -> str:
    """Python, platform and every installed distribution, one a line, sorted."""
    installed = {f"{each.metadata['Name']}=={each.version}" for each in distributions()}
    return "\n".join(
        [f"python=={platform.python_version()} {platform.platform()}", *sorted(installed)]
    )


def _git(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, check=True, timeout=30
    ).stdout


def _digest_of_files(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(os.fsencode(path.name) + b"\0" + path.read_bytes())
    return digest.hexdigest()
