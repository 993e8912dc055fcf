"""Replay flights of 2013 against a served model: requests in order, labels when they are due.

python jobs/replay.py configs/flights.yaml --url http://127.0.0.1:8000 \
    --start 2013-04-01 --end 2013-05-01 --set cluster.address=auto
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from raymlops import operate
from raymlops.cli.job import job_parser, open_job
from raymlops.demo.flights import load_flights
from raymlops.demo.replay import calls_by_day
from raymlops.demo.traffic import Traffic


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def main() -> None:
    parser = job_parser(__doc__)
    parser.add_argument("--url", required=True, help="where the model is served")
    parser.add_argument("--start", type=_day, default=_day("2013-04-01"))
    parser.add_argument("--end", type=_day, default=_day("2014-01-01"))
    arguments = parser.parse_args()
    with open_job(arguments) as workspace:
        monitor = operate.start_monitor(workspace, workspace.model)
        delay = workspace.settings.monitor.windows.label_delay
        days = calls_by_day(
            load_flights(),
            workspace.schema,
            start=arguments.start,
            end=arguments.end,
        )
        with Traffic(arguments.url, workspace.model, monitor, label_delay=delay) as traffic:
            for day, calls in days:
                traffic.send(calls, slowly=lambda: False)
                traffic.deliver_labels(day + timedelta(days=1))
            traffic.deliver_labels(arguments.end + delay)
    tally = traffic.tally
    p50, p99 = np.percentile(tally.latencies_s, [50, 99]) * 1e3
    print(f"{tally.num_sent} requests, {len(tally.failures)} failed, {tally.num_rows} rows")
    print(f"p50 {p50:.1f} ms, p99 {p99:.1f} ms; by arm: {tally.by_arm}")


if __name__ == "__main__":
    main()
