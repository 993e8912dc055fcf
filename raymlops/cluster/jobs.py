"""Scripts that run on the cluster: `ray job submit`, waited for."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from raymlops.cluster.auth import find_token
from raymlops.cluster.connect import resolve_address
from raymlops.cluster.environment import applied
from raymlops.cluster.head import find_head
from raymlops.cluster.settings import LOCAL, ClusterSettings
from raymlops.cluster.uploads import Upload
from raymlops.config import redact
from raymlops.errors import ClusterError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_logger = logging.getLogger(__name__)

_API_SERVER = "RAY_API_SERVER_ADDRESS"
_TAIL_CHARS = 4000


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """A job that succeeded; `log` is the end of what it printed."""

    job_id: str
    log: str


def submit(
    script: str | Path,
    args: Sequence[str] = (),
    *,
    settings: ClusterSettings,
    home: Path,
    working_dir: Path | None = None,
    env: Mapping[str, str] | None = None,
    include: Sequence[str] = (),
    num_cpus: float = 0,
    on_log: Callable[[str], None] | None = None,
) -> JobResult:
    """The end of `python SCRIPT ARGS` on the cluster, run in a copy of `working_dir`.

    `script` is relative to `working_dir`, and `num_cpus` are held by the script itself. An
    interrupt here leaves the job running. The script has the variables the cluster was started
    with, and `env`, which Ray's dashboard shows like `args`: neither may hold a secret.

    Args:
        include: Gitignore patterns of data and models to copy, too, which are left out else.
        on_log: Receives the job's output in pieces, as it appears.

    Raises:
        ClusterError: An argument or variable holds a secret, an argument names a file that is
            left out, there is no such folder, script or cluster, it refused the job, or the job
            failed; the message then ends with the job's log.
    """
    if settings.address == LOCAL:
        raise ValueError("a job needs a cluster that outlives this process: address 'local' is not")
    _refuse_secrets(args, env or {})
    if working_dir is not None and not working_dir.exists():  # Ray takes zipped ones, too
        raise ClusterError(
            f"the working directory {working_dir} is not on this machine; name the one that holds "
            f"{script}"
        )
    runtime_env: dict[str, object] = {"env_vars": dict(env or {})}
    if working_dir is not None:
        runtime_env["working_dir"] = str(working_dir)
    if working_dir is not None and working_dir.is_dir():
        upload = Upload.of(working_dir, home=home, include=include)
        upload.check(Path(script), args)
        if upload.left_out:
            _logger.warning(
                "not sent with the job, as data or models: %s (--include takes them along)",
                upload.names,
            )
        runtime_env["excludes"] = list(upload.excludes)
    url, token = _dashboard(settings, home=home)
    # Ray lets these variables override the address its client is given.
    with applied({_API_SERVER: url, "RAY_AUTH_MODE": "token" if token else "disabled"}):
        return _run(
            url,
            entrypoint=shlex.join(["python", str(script), *args]),
            runtime_env=runtime_env,
            num_cpus=num_cpus,
            on_log=on_log or _ignore,
        )


def _refuse_secrets(args: Sequence[str], env: Mapping[str, str]) -> None:
    texts = {f"argument {number}": text for number, text in enumerate(args, 1)}
    texts |= {f"variable {name}": text for name, text in env.items()}
    for place, text in texts.items():
        if redact(text) != text:
            raise ClusterError(
                f"{place} of the job holds a secret, which Ray's dashboard would show: let the job "
                "read ${file:PATH} of its node, or set the variable where the cluster is started"
            )


def _run(
    url: str,
    *,
    entrypoint: str,
    runtime_env: dict[str, object],
    num_cpus: float,
    on_log: Callable[[str], None],
) -> JobResult:
    from ray.job_submission import JobStatus, JobSubmissionClient

    kept: deque[str] = deque(maxlen=_TAIL_CHARS)
    try:
        client = JobSubmissionClient(url)
        job_id = client.submit_job(
            entrypoint=entrypoint, runtime_env=runtime_env, entrypoint_num_cpus=num_cpus
        )
        for piece in _follow(client, job_id):
            kept.extend(piece)
            on_log(piece)
        info = client.get_job_info(job_id)
    except (ConnectionError, RuntimeError) as error:
        raise ClusterError(
            f"the job server at {url} did not run {entrypoint!r}: {error}"
        ) from error
    log = "".join(kept)
    if info.status != JobStatus.SUCCEEDED:
        # Ray's message repeats the log.
        reason, _, _ = (info.message or "").partition(", last available logs")
        raise ClusterError(f"job {job_id} ended as {info.status}: {reason}\n{log}")
    return JobResult(job_id=job_id, log=log)


def _follow(client: JobSubmissionClient, job_id: str) -> Iterator[str]:
    """The pieces of the job's log as they appear, until the job ends.

    Ray offers them to an event loop only. That loop gets a thread of its own, so that a caller
    may have a loop too, as every notebook has.
    """
    pieces: SimpleQueue[str | Exception | None] = SimpleQueue()
    Thread(target=_pump, args=(client, job_id, pieces), daemon=True).start()
    while (piece := pieces.get()) is not None:
        if isinstance(piece, Exception):
            raise piece
        yield piece


def _pump(
    client: JobSubmissionClient, job_id: str, pieces: SimpleQueue[str | Exception | None]
) -> None:
    async def pump() -> None:
        async for piece in client.tail_job_logs(job_id):
            pieces.put(piece)

    try:
        with warnings.catch_warnings():
            # Ray passes aiohttp an argument that aiohttp has deprecated.
            warnings.filterwarnings("ignore", "ssl=None is deprecated", DeprecationWarning)
            asyncio.run(pump())
        pieces.put(None)
    except Exception as error:  # a thread's boundary: the waiting side raises it
        pieces.put(error)


def _dashboard(settings: ClusterSettings, *, home: Path) -> tuple[str, str | None]:
    """The job server's URL and the token it wants."""
    if given := os.environ.get(_API_SERVER):
        return given, find_token()
    head = find_head(resolve_address(settings.address, home=home))
    return head.reachable_dashboard(), head.token


def _ignore(_: str) -> None:
    """Drop a piece of log."""
