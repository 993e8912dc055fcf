"""Coordination by a ZooKeeper ensemble, for the processes of many machines."""

from raymlops.coordination.zookeeper.backend import ZooKeeperBackend

__all__ = ["ZooKeeperBackend"]
