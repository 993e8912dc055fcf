"""Pipeline parallel: some of the layers a worker, batches in microbatches through all of them.

python jobs/layouts/pipeline.py configs/digits.yaml --stages 2 --microbatches 8
python jobs/layouts/pipeline.py configs/digits.yaml --schedule zbv_zero_bubble
ray job submit --working-dir . -- python jobs/layouts/pipeline.py --home /shared/raymlops

Prints the timeline of a step, where the spec has checkpoints for it to lie beside; timeline.json
there is for ui.perfetto.dev.
"""

from __future__ import annotations

from pathlib import Path

from raymlops.cli.layout_job import layout_parser, plan_of, train_layout
from raymlops.train import TrainSpec
from raymlops.train.layouts.recorded import TEXT
from raymlops.train.pipeline import SCHEDULES


def main() -> None:
    parser = layout_parser(__doc__)
    parser.add_argument("--stages", type=int, default=2, help="workers of the pipeline")
    parser.add_argument("--microbatches", type=int, default=4, help="pieces of a batch")
    parser.add_argument("--schedule", choices=sorted(SCHEDULES), default="1f1b")
    arguments = parser.parse_args()
    plan = plan_of(
        parser,
        pipeline=arguments.stages,
        microbatches=arguments.microbatches,
        schedule=arguments.schedule,
    )
    trained = train_layout(arguments, plan, "pipeline.timeline=true", when=has_checkpoints)
    if trained.result.spec.pipeline.timeline:
        timeline = Path(trained.result.folder) / TEXT
        print(timeline.read_text() if timeline.exists() else "no timeline: there was one batch")
    step_s, bubble_s = (trained.metrics[name] for name in ("step_s", "bubble_s"))
    print(f"last step: {step_s * 1e3:.1f} ms, of which rank 0 waited {bubble_s * 1e3:.1f} ms")


def has_checkpoints(spec: TrainSpec) -> bool:
    return spec.checkpoints.every_steps > 0


if __name__ == "__main__":
    main()
