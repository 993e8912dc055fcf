"""Search for better training parameters: Ray Tune runs the trials, Optuna chooses them.

python jobs/tune.py configs/flights.yaml --set tune.num_trials=16
python jobs/train.py configs/flights.yaml .raymlops/tuned/flights.yaml

Each trial is a run in the ledger, nested in that of the search; the best parameters are written
to a configuration file to be named behind the model's own.
"""

from __future__ import annotations

from pathlib import Path

from raymlops import operate
from raymlops.cli.job import job_parser, open_job


def main() -> None:
    parser = job_parser(__doc__)
    parser.add_argument("--data", type=Path, help="a Parquet or CSV file to add first")
    arguments = parser.parse_args()
    with open_job(arguments) as workspace:
        dataset = operate.add_data(workspace, arguments.data) if arguments.data else None
        search, path = operate.tune(workspace, dataset)
    print(f"best of {search.num_trials} trials: run {search.best_run.id}")
    print(f"validation loss {search.validation_loss:.4f} with {search.best}")
    print(f"kept in {path}")


if __name__ == "__main__":
    main()
