"""Which version answers a request, and how all replicas come to agree on it.

publish(table) --> board, an actor --> ledger
                   board --> RemoteBoard, in each replica, by long polls
"""

from raymlops.serve.traffic.table import Arm, TrafficTable

__all__ = ["Arm", "TrafficTable"]
