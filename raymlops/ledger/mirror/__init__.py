"""The ledger's rows in an MLflow store, for those who look at MLflow.

mirror = Mirror("sqlite:///.raymlops/ledger.db", store, "sqlite:////srv/mlflow.db")
mirror.catch_up()

The mirror reads the ledger and is never on the way of a write: a store that is down costs a
training nothing, and the next catch-up copies what it missed.
"""

from raymlops.ledger.mirror.follow import FollowPolicy, delay_s, follow
from raymlops.ledger.mirror.mirror import Copied, Mirror

__all__ = ["Copied", "FollowPolicy", "Mirror", "delay_s", "follow"]
