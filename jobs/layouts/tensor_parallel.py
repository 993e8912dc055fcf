"""Tensor parallel: a slice of each layer a worker, all of them on the same rows.

python jobs/layouts/tensor_parallel.py configs/digits.yaml --slices 2
ray job submit --working-dir . -- python jobs/layouts/tensor_parallel.py --home /shared/raymlops
"""

from __future__ import annotations

from raymlops.cli.layout_job import layout_parser, plan_of, train_layout
from raymlops.train.layouts.slices import find_slices


def main() -> None:
    parser = layout_parser(__doc__)
    parser.add_argument("--slices", type=int, default=2, help="workers that share each layer")
    arguments = parser.parse_args()
    result = train_layout(arguments, plan_of(parser, tensor=arguments.slices)).result
    for name, kind in find_slices(result.model(), result.spec.tensor).layers.items():
        print(f"layer {name}: a {kind} slice in each of {arguments.slices} workers")


if __name__ == "__main__":
    main()
