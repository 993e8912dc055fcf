"""A training that is started where another one trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from raymlops.errors import TrainingError
from raymlops.train import Trainer
from tests.train.specs import MLP


def test_a_worker_starts_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that imported a script without a guard trained what it trained, without an end."""
    monkeypatch.setattr("ray.train.v2.api.train_fn_utils.get_context", object)
    home = tmp_path / "home"
    with pytest.raises(TrainingError, match="below if __name__ == '__main__'"):
        Trainer(MLP, home=home).fit()
    assert not home.exists()
