from __future__ import annotations

import logging

import pytest

from raymlops.errors import TrainingError
from raymlops.tune import TuneSpec
from raymlops.tune.search import _require_room, _without_its_last_words


def test_trials_that_fit_on_no_node_are_refused() -> None:
    """Ray Tune waited for such a node for ever, and without a word."""
    spec = TuneSpec(cpus_per_trial=3.0)
    _require_room(spec, [2.0, 3.0])
    with pytest.raises(TrainingError, match=r"needs 3 CPUs .*, the largest node has 2: set it"):
        _require_room(spec, [2.0, 2.0])


def test_ray_tune_does_not_tell_of_files_that_go_with_the_search(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("ray.tune.tune")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    with caplog.at_level(logging.INFO, logger="ray.tune.tune"), _without_its_last_words():
        logger.info("Wrote the latest version of all result files to '/tmp/x' in 0.01s.")
        logger.info("something else")
    assert {record.getMessage() for record in caplog.records} == {"something else"}
