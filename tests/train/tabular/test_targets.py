"""What every target of a table does, whether it is an event, a class or a number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pyarrow as pa
import pytest
import torch

from raymlops.data import Profile, TableSchema
from raymlops.train import TabularSpec
from raymlops.train.tabular.split import Split, split_by_time
from raymlops.train.tabular.targets import Answers, Classes, Event, Number, Target, target_said
from raymlops.train.tabular.trainer import fit_alone
from tests.weather import SCHEMA, weather

SIZES = ("large", "small")
SPEC = TabularSpec(hidden=(16,), dropout=0.0, epochs=4, batch_size=128, learning_rate=1e-2)


@pytest.fixture(params=[Event(), Classes(SIZES), Number()], ids=lambda each: type(each).__name__)
def target(request: pytest.FixtureRequest) -> Target:
    found: Target = request.param
    return found


@pytest.fixture
def split(target: Target, tumours: pa.Table, tumour_schema: TableSchema) -> Split:
    match target:
        case Event():
            return split_by_time(tumours, tumour_schema, 0.3)
        case Classes():
            others = [each for each in tumour_schema.features if each.name != "size"]
            sizes = replace(
                tumour_schema, target="size", classes=SIZES, features=tuple(others), expectations=()
            )
            return split_by_time(tumours, sizes, 0.3)
        case _:
            return split_by_time(weather().slice(0, 3000), SCHEMA, 0.3)


def answers_of(split: Split, target: Target) -> Answers:
    arrays = split.arrays
    network = fit_alone(arrays, SPEC, on_epoch=lambda _: None).eval()
    postprocessing = target.postprocessing("label", threshold=0.5)
    with torch.no_grad():
        found = [
            postprocessing.apply(network(torch.from_numpy(rows)).numpy())[postprocessing.score]
            for rows in (arrays.train, arrays.validation)
        ]
    return Answers(
        said=np.concatenate(found),
        unseen=found[1],
        quality=target.judge(found[1], arrays.validation_labels),
        threshold=0.5,
    )


def test_the_schema_and_the_answers_name_the_same_target(target: Target, split: Split) -> None:
    assert split.arrays.target == target
    assert target_said(target.postprocessing("label", threshold=0.5)) == target


def test_a_network_is_at_least_as_good_as_a_constant(target: Target, split: Split) -> None:
    arrays, network = split.arrays, answers_of(split, target).quality
    simple = {
        name: target.judge(say(arrays), arrays.validation_labels)
        for name, say in target.simple_models.items()
    }
    assert next(iter(simple)) == "constant"
    assert len(simple) == 2
    assert network.loss <= 1.01 * simple["constant"].loss
    assert {type(each) for each in simple.values()} == {type(network)}
    assert network.loss in network.to_dict().values()


def test_a_profile_holds_what_is_said_later_to_what_was_said(target: Target, split: Split) -> None:
    answers = answers_of(split, target)
    profile = target.profile(split, answers)
    assert profile.loss == pytest.approx(answers.quality.loss)
    np.testing.assert_array_equal(profile.count(split.columns, answers.said), profile.reference)
    assert Profile.from_dict(orjson.loads(orjson.dumps(profile.to_dict()))) == profile
