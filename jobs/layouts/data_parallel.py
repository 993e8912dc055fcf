"""Data parallel: whole copies of the model, each batch shared, gradients averaged by DDP.

python jobs/layouts/data_parallel.py configs/digits.yaml --workers 4
python jobs/layouts/data_parallel.py configs/digits.yaml --compressor int8
ray job submit --working-dir . -- python jobs/layouts/data_parallel.py --home /shared/raymlops
"""

from __future__ import annotations

from raymlops.cli.layout_job import layout_parser, plan_of, train_layout


def main() -> None:
    parser = layout_parser(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="copies of the model")
    parser.add_argument("--compressor", help="float16, bfloat16, int8, top_k, random_k, power_sgd")
    arguments = parser.parse_args()
    changes = []
    if arguments.compressor is not None:
        changes.append(f"communication.compressor={arguments.compressor}")
    trained = train_layout(arguments, plan_of(parser, data=arguments.workers), *changes)
    parameter_bytes = sum(weight.nbytes for weight in trained.result.weights().values())
    print(f"{parameter_bytes / 2**10:,.1f} KiB of parameters in each of {arguments.workers} copies")
    if "sent_mb" in trained.metrics:
        sent_kib = trained.metrics["sent_mb"] * 2**10
        print(f"{sent_kib:,.1f} KiB of gradients sent a step by each worker")


if __name__ == "__main__":
    main()
