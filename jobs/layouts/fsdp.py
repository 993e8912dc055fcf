"""Fully sharded: a slice of every parameter, gradient and moment a worker, by FSDP2 or HSDP.

python jobs/layouts/fsdp.py configs/digits.yaml --shards 4
python jobs/layouts/fsdp.py configs/digits.yaml --shards 2 --copies 2    # HSDP
ray job submit --working-dir . -- python jobs/layouts/fsdp.py --home /shared/raymlops
"""

from __future__ import annotations

from raymlops.cli.layout_job import layout_parser, plan_of, train_layout
from raymlops.train import ParallelPlan
from raymlops.train.layouts.limits import size_of
from raymlops.train.plan.proposal import memory_of


def main() -> None:
    parser = layout_parser(__doc__)
    parser.add_argument("--shards", type=int, default=2, help="workers that share a copy")
    parser.add_argument("--copies", type=int, default=1, help="copies, each of them sharded")
    arguments = parser.parse_args()
    plan = plan_of(parser, shard=arguments.shards, data=arguments.copies)
    size = size_of(train_layout(arguments, plan).result.spec)
    held, alone = (memory_of(each, size) / 2**10 for each in (plan, ParallelPlan()))
    print(f"parameters, gradients, moments: {held:,.1f} KiB a worker, {alone:,.1f} in one process")


if __name__ == "__main__":
    main()
