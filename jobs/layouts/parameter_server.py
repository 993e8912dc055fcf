"""Parameter server: shards hold and step the parameters, workers send gradients and fetch them.

python jobs/layouts/parameter_server.py configs/digits.yaml --workers 4 --shards 2
python jobs/layouts/parameter_server.py configs/digits.yaml --sync stale --staleness 2
ray job submit --working-dir . -- python jobs/layouts/parameter_server.py --home /shared/raymlops
"""

from __future__ import annotations

from raymlops.cli.layout_job import layout_parser, plan_of, train_layout


def main() -> None:
    parser = layout_parser(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="who send gradients")
    parser.add_argument("--shards", type=int, default=1, help="processes that hold parameters")
    parser.add_argument("--sync", default="synchronous", help="or asynchronous, or stale")
    parser.add_argument("--staleness", type=int, default=0, help="steps one may be ahead")
    arguments = parser.parse_args()
    plan = plan_of(
        parser,
        data=arguments.workers,
        server=arguments.shards,
        sync=arguments.sync,
        staleness=arguments.staleness,
    )
    weights = train_layout(arguments, plan).result.weights()
    held = sum(weight.nbytes for weight in weights.values()) / 2**10
    print(f"{held:,.1f} KiB of parameters in {plan.server} shards, {held / plan.server:,.1f} each")


if __name__ == "__main__":
    main()
