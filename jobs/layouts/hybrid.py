"""Hybrid: several axes at once, each worker at a place on every one of them.

python jobs/layouts/hybrid.py configs/digits.yaml --plan data=2,tensor=2
python jobs/layouts/hybrid.py configs/digits.yaml --plan data=2,tensor=2,pipeline=2,microbatches=4
ray job submit --working-dir . -- python jobs/layouts/hybrid.py --home /shared/raymlops
"""

from __future__ import annotations

from raymlops.cli.layout_job import layout_parser, plan_argument, train_layout
from raymlops.train import ParallelPlan
from raymlops.train.plan import AXES


def main() -> None:
    parser = layout_parser(__doc__)
    parser.add_argument(
        "--plan", type=plan_argument, default=ParallelPlan(data=2, tensor=2),
        help="axes and their sizes",
    )  # fmt: skip
    arguments = parser.parse_args()
    for axis in AXES:
        if arguments.plan.sizes[axis] > 1:
            print(f"{axis}: ranks {', '.join(map(str, arguments.plan.groups(axis)))}")
    train_layout(arguments, arguments.plan)


if __name__ == "__main__":
    main()
