"""Models that cannot be trained are refused with their name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raymlops.errors import TrainingError
from raymlops.train.spec.factory import Factory
from tests.train import models
from tests.train.loop.fitting import PLAIN, fit


def test_a_factory_that_makes_no_module_is_named() -> None:
    wrong = replace(PLAIN, model=Factory(call="tests.train.models:text"))
    with pytest.raises(TrainingError, match=r"models:text made a ArraySource, not a torch module"):
        fit(wrong)


def frozen() -> torch.nn.Module:
    return models.mlp().requires_grad_(False)


def test_a_model_with_nothing_to_train_is_refused() -> None:
    """Stages of a pipeline went through all steps, one process ended with what torch says."""
    wrong = replace(PLAIN, model=Factory(call=f"{__name__}:frozen"))
    with pytest.raises(TrainingError, match="frozen made a model without a parameter that requi"):
        fit(wrong)


def lazy() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10))


def test_a_model_whose_layers_wait_for_rows_is_refused() -> None:
    """Under several workers its first weights were none that the seed gives."""
    wrong = replace(PLAIN, model=Factory(call=f"{__name__}:lazy"))
    told = r"lazy made a model in which 1\.weight, 1\.bias have no size before its first pass"
    with pytest.raises(TrainingError, match=told):
        fit(wrong)
