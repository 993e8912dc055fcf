"""One machine's part of a cluster, as `cluster.yaml` starts and stops it.

    python -m raymlops.cluster.node start --head --port 6379
    python -m raymlops.cluster.node start --address 10.0.0.1:6379
    python -m raymlops.cluster.node show
    python -m raymlops.cluster.node stop

A started node is recorded under `--home`, so that `stop` ends that one only. What a killed `start`
left behind is ended by the next one, or by `stop`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from raymlops.cluster.background import NodePlan, read_node, start_node, stop_node
from raymlops.cluster.files import locked, replace_text
from raymlops.cluster.starting import end_unanswered
from raymlops.errors import ClusterError, RaymlopsError


def _start(args: argparse.Namespace, path: Path) -> None:
    end_unanswered(path)
    recorded = read_node(path)
    if recorded is not None and recorded.running:
        sys.stdout.write(f"already up: {recorded.address}\n")
        return
    if recorded is not None:
        stop_node(recorded)
    plan = NodePlan(
        join=args.address,
        host=args.host,
        port=args.port,
        dashboard_host=args.dashboard_host,
        num_cpus=args.num_cpus,
    )
    record = start_node(plan, log=path.with_suffix(".log"), path=path)
    replace_text(path, record.to_json())
    sys.stdout.write(f"up: {record.address}\n")


def _show(path: Path) -> None:
    record = read_node(path)
    if record is None or not record.running:
        raise ClusterError(f"no node of raymlops runs here (looked in {path})")
    sys.stdout.write(record.to_json() + "\n")


def _stop(path: Path) -> None:
    end_unanswered(path)
    record = read_node(path)
    if record is not None:
        stop_node(record)
        path.unlink()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m raymlops.cluster.node")
    parser.add_argument("--home", type=Path, default=Path("~/.raymlops"))
    verbs = parser.add_subparsers(dest="verb", required=True)
    start = verbs.add_parser("start")
    role = start.add_mutually_exclusive_group(required=True)
    role.add_argument("--head", action="store_true")
    role.add_argument("--address", help="HOST:PORT of the head to join")
    start.add_argument("--host", help="this machine's address in the cluster")
    start.add_argument("--port", type=int, default=6379)
    start.add_argument("--dashboard-host", default="127.0.0.1")
    start.add_argument("--num-cpus", type=int)
    verbs.add_parser("show")
    verbs.add_parser("stop")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status of `start`, `show` or `stop` on this machine."""
    args = _parser().parse_args(arguments)
    home = args.home.expanduser()
    home.mkdir(parents=True, exist_ok=True)
    path = home / "node.json"
    try:
        with locked(home / "node.lock"):
            match args.verb:
                case "start":
                    _start(args, path)
                case "show":
                    _show(path)
                case "stop":
                    _stop(path)
    except RaymlopsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
