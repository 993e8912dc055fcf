"""Train a challenger on a file, hold it against the champion on rows it has not seen.

python jobs/retrain.py configs/flights.yaml --data flights.parquet --known-at 2013-07-02
python jobs/retrain.py configs/flights.yaml --data flights.parquet --release

With --release a challenger that passes the gate gets its first share of a deployed model's
traffic; `raymlops watch` takes the next steps.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from raymlops import operate
from raymlops.cli.job import job_parser, open_job
from raymlops.cli.options import parse_time
from raymlops.data import read_table

WHO = "jobs/retrain.py"


def main() -> None:
    parser = job_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="all rows with known labels")
    parser.add_argument("--known-at", type=parse_time, default=datetime.now(UTC))
    parser.add_argument("--release", action="store_true", help="release it if it passes")
    arguments = parser.parse_args()
    now = arguments.known_at
    with open_job(arguments) as workspace:
        table = read_table(arguments.data)
        challenger = operate.make_challenger(workspace, lambda _: table, now)
        verdict = operate.judge_challenger(workspace, challenger)
        workspace.ledger.decisions.add(
            model=workspace.model,
            kind="gate",
            outcome=f"{challenger.version.version} {'passed' if verdict.passed else 'refused'}",
            who=WHO,
            why=verdict.why,
            evidence=verdict.evidence,
            event_time=now,
        )
        if verdict.passed and arguments.release:
            operate.release(workspace, challenger.version, now=now, who=WHO, why=verdict.why)
    print(f"{challenger.version}: {'passed' if verdict.passed else 'refused'}")
    print(verdict.why)


if __name__ == "__main__":
    main()
