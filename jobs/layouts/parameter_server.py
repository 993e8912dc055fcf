"""Parameter server: shards hold and step the parameters, workers send gradients and fetch them.

python jobs/layouts/parameter_server.py SPEC.yaml --workers 4 --shards 2
python jobs/layouts/parameter_server.py SPEC.yaml --workers 4 --sync stale --staleness 2
ray job submit --working-dir . -- python jobs/layouts/parameter_server.py SPEC.yaml
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from raymlops.cli.options import find_functions_here
from raymlops.cluster import ClusterSettings
from raymlops.errors import RaymlopsError
from raymlops.train import ParallelPlan, Trainer, TrainSpec


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", type=Path, help="a YAML spec")
    parser.add_argument("--workers", type=int, default=2, help="who send gradients")
    parser.add_argument("--shards", type=int, default=1, help="processes that hold parameters")
    parser.add_argument("--sync", default="synchronous", help="or asynchronous, or stale")
    parser.add_argument("--staleness", type=int, default=0, help="steps one may be ahead")
    parser.add_argument("--home", type=Path, default=Path(".raymlops"), help="runs, checkpoints")
    arguments = parser.parse_args()
    find_functions_here()
    address = "auto" if "RAY_ADDRESS" in os.environ else "local"  # auto: what took the job
    try:
        plan = ParallelPlan(
            data=arguments.workers,
            server=arguments.shards,
            sync=arguments.sync,
            staleness=arguments.staleness,
        )
        spec = TrainSpec.read(arguments.spec)
        cluster = ClusterSettings(address=address)
        result = Trainer(spec, plan=plan, home=arguments.home, cluster=cluster).fit()
    except (RaymlopsError, ValueError) as error:
        sys.exit(str(error))
    held = sum(weight.nbytes for weight in result.weights().values()) / 2**10
    print(f"run {result.run_id}: {result.steps} steps under {plan}")
    print(f"{held:,.1f} KiB of parameters in {plan.server} shards, {held / plan.server:,.1f} each")


if __name__ == "__main__":
    main()
