"""A Prometheus of this home: started in the background, ended by what was recorded of it."""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path

import yaml

from raymlops.cluster.address import free_port, split_address
from raymlops.cluster.files import locked, replace_text, tail
from raymlops.cluster.process import SessionLeader
from raymlops.config import check_durations
from raymlops.errors import ClusterError, ConfigError

_PROGRAM = "prometheus"
_START_TIMEOUT_S = 30.0
_STOP_GRACE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class PrometheusSettings:
    """Whether `raymlops up` starts a Prometheus, and where that listens; port 0 is any free one.

    `alertmanager` is HOST:PORT of whoever is to be sent the alerts of its rules.
    """

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = 9090
    retention_days: int = 15
    alertmanager: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}, not within 0 and 65535")
        check_durations(self, "retention_days")
        if self.alertmanager is not None:
            split_address(self.alertmanager)


@dataclass(frozen=True, kw_only=True)
class PrometheusRecord:
    """A Prometheus that was started: its process, and where it answers."""

    leader: SessionLeader
    url: str

    @property
    def running(self) -> bool:
        return self.leader.process() is not None


def prometheus_program() -> str:
    """Raises ConfigError when Prometheus is not installed."""
    found = shutil.which(_PROGRAM)
    if found is None:
        raise ConfigError(
            "monitor.prometheus.enabled is true, but there is no program `prometheus`: install it "
            "(Debian: apt-get install prometheus), or set it to false"
        )
    return found


def recorded_prometheus(home: Path) -> PrometheusRecord | None:
    """The Prometheus that was started from this home, running or not."""
    path = _record_path(home)
    try:
        fields = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    leader = SessionLeader.from_fields(fields["leader"], source=str(path))
    return PrometheusRecord(leader=leader, url=fields["url"])


def start_prometheus(
    settings: PrometheusSettings, *, home: Path, template: Path, targets: dict[str, Path]
) -> PrometheusRecord:
    """The Prometheus of this home, started unless it runs.

    It scrapes each job of `template` where the file in `targets` says.

    Raises:
        ConfigError: Prometheus is not installed.
        ClusterError: it did not come up; the message ends with its log.
    """
    program = prometheus_program()
    folder = _folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        recorded = recorded_prometheus(home)
        log = folder / "prometheus.log"
        if recorded is not None and recorded.running:
            _wait_until_ready(recorded, log)  # who started it may have been killed while it waited
            return recorded
        config = folder / "prometheus.yml"
        alertmanagers = [] if settings.alertmanager is None else [settings.alertmanager]
        replace_text(config, filled_in(template, targets, alertmanagers))
        port = settings.port or free_port(settings.host)
        leader = _spawn(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--storage.tsdb.retention.time={settings.retention_days}d",
                f"--web.listen-address={settings.host}:{port}",
            ],
            log=log,
        )
        record = PrometheusRecord(leader=leader, url=f"http://{settings.host}:{port}")
        replace_text(_record_path(home), json.dumps(asdict(record), indent=2))
        try:
            _wait_until_ready(record, log)
        except ClusterError:
            _record_path(home).unlink()
            raise
    return record


def stop_prometheus(home: Path) -> bool:
    """Ends the recorded Prometheus, and nothing else; False where none was recorded."""
    recorded = recorded_prometheus(home)
    if recorded is None:
        return False
    with locked(_folder(home) / "lock"):
        recorded.leader.end(grace_s=_STOP_GRACE_S)
        _record_path(home).unlink(missing_ok=True)
    return True


def filled_in(template: Path, targets: dict[str, Path], alertmanagers: Sequence[str]) -> str:
    """The configuration `template` with the files in which each job's targets are listed.

    Raises:
        ConfigError: it has no job of that name.
    """
    config = yaml.safe_load(template.read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    if missing := targets.keys() - jobs.keys():
        raise ConfigError(f"{template} has no jobs {sorted(missing)}, only {sorted(jobs)}")
    for name, path in targets.items():
        (discovery,) = jobs[name]["file_sd_configs"]
        discovery["files"] = [str(path)]
    config["rule_files"] = [str(template.parent / rules) for rules in config["rule_files"]]
    (manager,) = config["alerting"]["alertmanagers"]
    manager["static_configs"] = [{"targets": list(alertmanagers)}]
    return yaml.safe_dump(config, sort_keys=False)


def _spawn(command: list[str], *, log: Path) -> SessionLeader:
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        command[0],
        command,
        dict(os.environ),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), appending, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    return SessionLeader.of(pid)


def _wait_until_ready(record: PrometheusRecord, log: Path) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while record.running and time.monotonic() < deadline_s:
        try:
            urllib.request.urlopen(f"{record.url}/-/ready", timeout=1).close()
        except (OSError, HTTPException):
            time.sleep(0.05)
        else:
            return
    record.leader.end(grace_s=_STOP_GRACE_S)
    raise ClusterError(f"Prometheus did not come up at {record.url}; {log} ends:\n{tail(log)}")


def _folder(home: Path) -> Path:
    return home / "prometheus"


def _record_path(home: Path) -> Path:
    return _folder(home) / "process.json"
