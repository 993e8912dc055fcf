from __future__ import annotations

from raymlops.serve import TrafficTable
from tests.serve.conftest import MODEL

TABLES = [TrafficTable.champion(MODEL, version).to_dict() for version in ("1.0.0", "1.0.1")]
