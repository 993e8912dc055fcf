"""Serve a version; on a cluster it stays up, on a private Ray until interrupted.

python jobs/serve.py configs/flights.yaml --reference flights@champion
ray job submit --working-dir . -- python jobs/serve.py configs/flights.yaml --home /shared/raymlops
"""

from __future__ import annotations

from contextlib import nullcontext

from raymlops import operate
from raymlops.cli.job import job_parser, open_job
from raymlops.cli.signals import ended_by_signal
from raymlops.cluster import is_private


def main() -> None:
    parser = job_parser(__doc__)
    parser.add_argument("--reference", help="MODEL@ALIAS or MODEL@1.2.3; the champion by default")
    arguments = parser.parse_args()
    with open_job(arguments) as workspace:
        reference = arguments.reference or f"{workspace.model}@champion"
        private = is_private(workspace.settings.cluster, home=workspace.home)
        model = reference.partition("@")[0]
        with operate.serving_privately(workspace.home, [model]) if private else nullcontext():
            deployment = operate.deploy(workspace, reference)
            print(f"{deployment.url}/v2/models/{model}/infer", flush=True)
            if private:
                ended_by_signal().wait()
                operate.undeploy(workspace, model)


if __name__ == "__main__":
    main()
