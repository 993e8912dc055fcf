"""Ray Train's controller, the actor that looks after the workers of an attempt; should it die, the
driver ends them.

Ray Train has a helper for that, which asks the Ray that it finds on the machine whether the
controller lives. Where somebody has started another one there, that knows nothing of it, and the
helper ended the workers of a healthy training, as often as they were started again.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.placement_group import PlacementGroup, remove_placement_group

from raymlops.cluster.head import find_head


class UnsweptTrainer(DataParallelTrainer):
    """Ray Train's own, without that helper: who calls `fit` has to `sweep`."""

    def _create_default_callbacks(self) -> list[Any]:
        return [
            callback
            for callback in super()._create_default_callbacks()
            if not isinstance(callback, PlacementGroupCleanerCallback)
        ]


def sweep() -> None:
    """Ends the workers of controllers that died, and frees what was kept for them: Ray would keep
    it for as long as this driver runs.

    Raises:
        ClusterError: Ray's head does not answer.
    """
    context = ray.get_runtime_context()
    for group_id in find_head(context.gcs_address).abandoned_groups(context.get_job_id()):
        group = ray.PlacementGroupID(bytes.fromhex(group_id))
        remove_placement_group(PlacementGroup(group))
