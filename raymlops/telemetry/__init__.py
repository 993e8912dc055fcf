"""What raymlops measures and writes of itself: one catalogue of metrics, counted in integers.

    meter = RequestMeter("flights")
    meter.note("1.0.0", "champion", 200, rows=3, total_s=0.000812)
    gathered = Gathered()
    gathered.put(Snapshot(source="replica-1", sequence=0, series=meter.series()), now_s=0.0)
    families(gathered.series())           # for prometheus_client, or anybody it speaks to

Policy alone: where snapshots travel and who listens for a scrape is the affair of others.
"""

from raymlops.telemetry.catalogue import CATALOGUE, FROM_RAY, OTHER, Metric
from raymlops.telemetry.exposition import families
from raymlops.telemetry.requests import NONE, RequestMeter
from raymlops.telemetry.snapshot import Gathered, Series, Snapshot, Told

__all__ = [
    "CATALOGUE",
    "FROM_RAY",
    "NONE",
    "OTHER",
    "Gathered",
    "Metric",
    "RequestMeter",
    "Series",
    "Snapshot",
    "Told",
    "families",
]
