from __future__ import annotations

import socket

from raymlops.cluster.address import free_port, is_loopback, is_this_machine, split_address


def test_host_and_port_come_apart() -> None:
    assert split_address("10.0.0.1:6379") == ("10.0.0.1", 6379)
    assert split_address("[fd00::2]:6379") == ("fd00::2", 6379)


def test_loopback_is_told_from_the_network() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost")] == [True] * 3
    assert [is_loopback(host) for host in ("10.0.0.1", "0.0.0.0", "head")] == [False] * 3


def test_an_address_of_documentation_is_no_machine_of_ours() -> None:
    assert is_this_machine("127.0.0.1")
    assert not is_this_machine("203.0.113.7")


def test_a_free_port_is_kept_and_a_taken_one_replaced() -> None:
    preferred = free_port("127.0.0.1")
    assert free_port("127.0.0.1", preferred=preferred) == preferred
    with socket.create_server(("127.0.0.1", preferred)):
        assert free_port("127.0.0.1", preferred=preferred) != preferred


def test_a_free_port_is_none_that_linux_gives_to_whoever_connects() -> None:
    assert all(20_000 <= free_port("127.0.0.1") < 32_768 for _ in range(20))
