from __future__ import annotations

from datetime import UTC, datetime

import pytest

from raymlops.ledger import Version
from raymlops.ledger.mirror.names import (
    MAX_PARAM,
    milliseconds,
    safe_alias,
    safe_model,
    safe_name,
    shortened,
    value_text,
    version_alias,
)


@pytest.mark.parametrize("name", ["loss", "val/loss", "p 99:ms", "größe", "a.b-c_d", "x" * 250])
def test_names_that_mlflow_takes_stay_as_they_are(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    assert safe_name(name) == name
    _validate_metric_name(name)


@pytest.mark.parametrize(
    "name", ["loss@5", "a//b", "../x", "/x", ".", "", "a/../b", "x" * 251, "a\n", "a/", "100 %"]
)
def test_names_that_mlflow_refuses_become_others_that_it_takes(name: str) -> None:
    from mlflow.utils.validation import MlflowException, _validate_length_limit
    from mlflow.utils.validation import _validate_metric_name as validate

    safe = safe_name(name)
    validate(safe)
    _validate_length_limit("name", 250, safe)
    assert safe != name
    if len(name) <= 250 and name != "a\n":  # MLflow overlooks a line break at the end
        with pytest.raises(MlflowException):
            validate(name)


def test_refused_names_that_look_alike_stay_apart() -> None:
    assert safe_name("loss@5").startswith("loss_5-")
    assert safe_name("loss@5") != safe_name("loss#5")


def test_models_and_aliases_get_names_that_mlflow_takes() -> None:
    assert safe_model("flights") == "flights"
    assert safe_model("eu/flights").startswith("eu_flights-")
    assert safe_alias("champion") == "champion"
    assert safe_alias("v1") == "alias-v1"
    assert safe_alias("Latest") == "alias-Latest"
    assert safe_alias("blue.green") == "blue-green"
    assert version_alias(Version(1, 12, 3)) == "1-12-3"


def test_a_text_that_is_too_long_says_so() -> None:
    assert shortened("x" * MAX_PARAM, MAX_PARAM) == "x" * MAX_PARAM
    short = shortened("x" * (MAX_PARAM + 1), MAX_PARAM)
    assert len(short) == MAX_PARAM
    assert "... [6001 characters, sha256 " in short


def test_parameters_are_texts_or_json() -> None:
    assert [value_text(value) for value in ("adam", 0.1, True, None, [1, 2], {"b": 1, "a": 2})] == [
        "adam", "0.1", "true", "null", "[1, 2]", '{"a": 2, "b": 1}',
    ]  # fmt: skip


def test_milliseconds_are_exact() -> None:
    assert milliseconds(datetime(2013, 6, 1, 12, 0, 0, 123999, tzinfo=UTC)) == 1370088000123
    assert milliseconds(datetime(1970, 1, 1, tzinfo=UTC)) == 0
