"""Train on the newest dataset version, or on a file, and register the model.

python jobs/train.py configs/flights.yaml --data flights.parquet
raymlops submit jobs/train.py -- configs/flights.yaml --data /shared/flights.parquet
ray job submit --working-dir . -- python jobs/train.py configs/flights.yaml --home /shared/raymlops
"""

from __future__ import annotations

from pathlib import Path

from raymlops import operate
from raymlops.cli.job import job_parser, open_job
from raymlops.ledger.figures import shown_figure


def main() -> None:
    parser = job_parser(__doc__)
    parser.add_argument("--data", type=Path, help="a Parquet or CSV file to add first")
    arguments = parser.parse_args()
    with open_job(arguments) as workspace:
        dataset = operate.add_data(workspace, arguments.data) if arguments.data else None
        training = operate.train(workspace, dataset)
        version = operate.register(workspace, training)
        if not workspace.ledger.registry.moves(version.model, "champion"):
            operate.promote(workspace, version, who="jobs/train.py", why="the first version")
    for name, quality in training.qualities.items():
        print(
            name,
            *(f"{figure} {shown_figure(value)}" for figure, value in quality.to_dict().items()),
        )
    print(f"run {training.run.id}, version {version}")


if __name__ == "__main__":
    main()
