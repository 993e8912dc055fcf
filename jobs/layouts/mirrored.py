"""TensorFlow: whole copies of a Keras model, on the devices of one process or of all workers.

python jobs/layouts/mirrored.py --plan data=2
python jobs/layouts/mirrored.py --plan data=2 --loop fit
ray job submit --working-dir . -- python jobs/layouts/mirrored.py --home /shared/raymlops
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from raymlops import operate
from raymlops.cli.job import open_job
from raymlops.cli.layout_job import plan_argument
from raymlops.demo.digits import sources
from raymlops.train import Factory, KerasSpec, ParallelPlan


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", type=plan_argument, default=ParallelPlan(data=2))
    parser.add_argument("--loop", choices=("custom", "fit"), default="custom")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--home", type=Path, help="where ledger and checkpoints lie")
    arguments = parser.parse_args()
    spec = KerasSpec(
        model=Factory(call="raymlops.demo.digits:keras_mlp"),
        data=Factory(call="raymlops.demo.digits:sources"),
        name="digits",
        loop=arguments.loop,
        epochs=arguments.epochs,
    )
    with open_job(argparse.Namespace(configs=[], home=arguments.home, set=[])) as workspace:
        result = operate.fit(workspace, spec, arguments.plan)
    images, labels = sources()[1].columns
    right = np.argmax(result.model()(images), axis=1) == labels
    print(f"run {result.run_id}: {result.steps} steps, accuracy {right.mean():.3f}")


if __name__ == "__main__":
    main()
