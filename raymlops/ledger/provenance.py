"""Where a run comes from: the commit, what differed from it, and the packages installed."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path

from raymlops.ledger.records import Code

NO_COMMIT = "none"


def code_at(folder: Path) -> Code:
    """The commit checked out in `folder`, with a digest of uncommitted changes.

    Outside a git checkout the commit is "none" and the digest covers the Python files that lie in
    `folder` itself.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return Code(commit=NO_COMMIT, dirty_digest=_digest_of_files(folder))
    changes = _git(folder, "diff", "HEAD", "--binary") or b""
    untracked = _git(folder, "ls-files", "--others", "--exclude-standard", "-z") or b""
    if not changes and not untracked:
        return Code(commit=commit.decode().strip(), dirty_digest=None)
    digest = hashlib.sha256(changes)
    for name in sorted(untracked.decode().split("\0")):
        path = folder / name
        if name and path.is_file():
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return Code(commit=commit.decode().strip(), dirty_digest=digest.hexdigest())


def environment() -> str:
    """Python, platform and every installed distribution, one a line, sorted."""
    installed = {f"{each.metadata['Name']}=={each.version}" for each in distributions()}
    return "\n".join(
        [f"python=={platform.python_version()} {platform.platform()}", *sorted(installed)]
    )


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=True, timeout=30
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout


def _digest_of_files(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
