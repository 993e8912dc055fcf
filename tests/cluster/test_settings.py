from __future__ import annotations

import pytest

from raymlops.cluster import ClusterSettings


def test_sizes_ask_for_a_private_ray() -> None:
    assert not ClusterSettings().is_sized
    for sized in ({"num_cpus": 2}, {"dashboard": True}, {"object_store_bytes": 2**30}):
        assert ClusterSettings(**sized).is_sized


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head:6379", "[::1]:6379"])
def test_an_address_to_join_is_taken(address: str) -> None:
    assert ClusterSettings(address=address).address == address


@pytest.mark.parametrize("address", ["", "head", "head:", ":6379", "head:0", "ray://head:10001"])
def test_another_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="expected 'local', 'auto' or HOST:PORT"):
        ClusterSettings(address=address)


def test_a_size_for_a_cluster_that_is_joined_is_refused() -> None:
    with pytest.raises(ValueError, match="address is 'auto'"):
        ClusterSettings(address="auto", num_cpus=2)


def test_sizes_ray_would_refuse_are_refused() -> None:
    with pytest.raises(ValueError, match="num_cpus is 0"):
        ClusterSettings(num_cpus=0)
    with pytest.raises(ValueError, match="object_store_bytes is 1, Ray needs 78643200"):
        ClusterSettings(object_store_bytes=1)


def test_an_empty_namespace_is_refused() -> None:
    with pytest.raises(ValueError, match="namespace is empty"):
        ClusterSettings(namespace="")
