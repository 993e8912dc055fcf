from __future__ import annotations

import pytest

from raymlops.errors import TrainingError
from raymlops.tune import TuneSpec
from raymlops.tune.search import _require_room


def test_trials_that_fit_on_no_node_are_refused() -> None:
    """Ray Tune waited for such a node for ever, and without a word."""
    spec = TuneSpec(cpus_per_trial=3.0)
    _require_room(spec, [2.0, 3.0])
    with pytest.raises(TrainingError, match=r"needs 3 CPUs .*, the largest node has 2: set it"):
        _require_room(spec, [2.0, 2.0])
