"""Ray Serve's HAProxy mode, which is chosen by the environment that Ray is started in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from raymlops.cluster.address import free_port

ROOT = Path(__file__).parents[3]


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.endurance
def test_haproxy_gives_the_answers_of_the_door(tmp_path: Path) -> None:
    # A socket's path may have 107 characters.
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        chosen = {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{short}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{short}/admin.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": short,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{short}/state",
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{short}/metrics.sock",
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port("127.0.0.1")),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port("127.0.0.1")),
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.serve.asking", str(tmp_path)],
            cwd=ROOT,
            env=os.environ | chosen,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (config,) = Path(short).rglob("haproxy.cfg")
        assert "backend" in config.read_text()
    told = json.loads(done.stdout.splitlines()[-1])
    assert [answer["status"] for _, answer, _ in told].count(200) == 6
    for request, by_door, by_haproxy in told:
        assert by_door == by_haproxy, request
