"""What on this machine may keep raymlops from working; no heavy package is imported."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from raymlops.cluster.auth import open_to_others, token_path
from raymlops.cluster.status import status
from raymlops.errors import ClusterError
from raymlops.storage import Copies

_GIB = 2**30


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at, and what to do about it where it is not ok."""

    subject: str
    level: Level
    text: str


def diagnose(home: Path, copies: Copies | None = None) -> tuple[Finding, ...]:
    """Findings about Python, packages, the machine, home, what it keeps of a store elsewhere, the
    Ray token and the recorded cluster."""
    kept = () if copies is None else (_copies(copies),)
    return (
        _python(),
        judge_ray(installed("ray")),
        judge_torch(installed("torch")),
        judge_tensorflow(installed("tensorflow"), installed("tensorflow-cpu")),
        judge_onnxruntime(installed("onnxruntime") or installed("onnxruntime-gpu")),
        judge_cores(psutil.cpu_count() or 1),
        judge_room("memory", psutil.virtual_memory().available, wanted_bytes=4 * _GIB),
        judge_home(home),
        judge_room("disk", shutil.disk_usage(_existing(home)).free, wanted_bytes=10 * _GIB),
        *kept,
        _shared_memory(),
        judge_token(token_path()),
        _cluster(home),
    )


def installed(distribution: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def judge_ray(found: str | None) -> Finding:
    """Whether Ray is there in a version that was tried."""
    if found is None:
        return _finding("ray", Level.ERROR, "not installed: pip install 'ray[default]>=2.60,<3'")
    major, minor = (int(part) for part in found.split(".")[:2])
    if (major, minor) < (2, 60) or major > 2:
        return _finding("ray", Level.WARNING, f"{found}, tried with 2.60 to 2.x")
    return _finding("ray", Level.OK, found)


def judge_torch(found: str | None) -> Finding:
    """Whether PyTorch is there, and whether it can use a GPU at all."""
    if found is None:
        return _finding("torch", Level.ERROR, "not installed: pip install torch")
    if found.endswith("+cpu"):
        return _finding("torch", Level.NOTE, f"{found}, a CPU build: it sees no GPU")
    return _finding("torch", Level.OK, found)


def judge_tensorflow(full: str | None, cpu: str | None) -> Finding:
    """Which distribution provides the module `tensorflow`; both at once overwrite each other."""
    if full is not None and cpu is not None:
        text = f"tensorflow {full} and tensorflow-cpu {cpu} share their files: uninstall one"
        return _finding("tensorflow", Level.WARNING, text)
    if full is not None:
        return _finding("tensorflow", Level.OK, f"{full} from tensorflow")
    if cpu is not None:
        return _finding("tensorflow", Level.OK, f"{cpu} from tensorflow-cpu")
    return _finding("tensorflow", Level.NOTE, "not installed: Keras models and training need it")


def judge_onnxruntime(found: str | None) -> Finding:
    """Whether ONNX models can be served."""
    if found is None:
        return _finding("onnxruntime", Level.ERROR, "not installed: pip install onnxruntime")
    return _finding("onnxruntime", Level.OK, found)


def judge_cores(num_cores: int) -> Finding:
    """Whether training and serving have room beside each other."""
    level = Level.OK if num_cores >= 2 else Level.WARNING
    return _finding("cores", level, str(num_cores))


def judge_room(subject: str, free_bytes: int, *, wanted_bytes: int) -> Finding:
    """Whether `free_bytes` of memory or disk are enough to begin with."""
    free = f"{free_bytes / _GIB:.1f} GiB free"
    if free_bytes >= wanted_bytes:
        return _finding(subject, Level.OK, free)
    return _finding(subject, Level.WARNING, f"{free}, {wanted_bytes / _GIB:.0f} GiB wanted")


def judge_home(home: Path) -> Finding:
    """Whether files can be written there, or where it is to be made; what is tried leaves none."""
    there = _existing(home)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"raymlops")
            file.flush()
    except OSError as error:
        return _finding("home", Level.ERROR, f"{there} cannot be written: {error}")
    return _finding("home", Level.OK, str(home))


def judge_token(path: Path) -> Finding:
    """Whether other users can read the Ray token, and so run code on the cluster."""
    if not path.exists():
        return _finding("token", Level.NOTE, f"none at {path} yet: the first cluster makes one")
    if open_to_others(path):
        return _finding("token", Level.WARNING, f"others can read {path}: chmod 600 {path}")
    return _finding("token", Level.OK, str(path))


def _python() -> Finding:
    # The package does not install below its lowest version.
    return _finding("python", Level.OK, ".".join(str(part) for part in sys.version_info[:3]))


def _copies(copies: Copies) -> Finding:
    sizes = copies.sizes_bytes()
    text = (
        f"{len(sizes)} of the store's blobs, {sum(sizes) / 2**20:.1f} of "
        f"{copies.max_bytes / 2**20:.0f} MiB (storage.copies_mb), in {copies.folder}"
    )
    return _finding("copies", Level.OK, text)


def _shared_memory() -> Finding:
    shared = Path("/dev/shm")
    if not shared.is_dir():
        return _finding("/dev/shm", Level.WARNING, "missing: Ray keeps objects on disk, slowly")
    return judge_room(str(shared), shutil.disk_usage(shared).free, wanted_bytes=2 * _GIB)


def _cluster(home: Path) -> Finding:
    try:
        found = status(home)
    except ClusterError as error:
        return _finding("cluster", Level.ERROR, str(error))
    if found.address is None:
        return _finding("cluster", Level.NOTE, "none recorded: `raymlops up` starts one")
    if not found.running:
        return _finding("cluster", Level.ERROR, f"{found.address} is gone: {found.problem}")
    if found.problem is not None:
        return _finding("cluster", Level.WARNING, f"{found.address}: {found.problem}")
    return _finding("cluster", Level.OK, f"{found.address}, {len(found.nodes)} node(s)")


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _finding(subject: str, level: Level, text: str) -> Finding:
    return Finding(subject=subject, level=level, text=text)
