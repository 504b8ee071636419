from __future__ import annotations

import os
from ipaddress import IPv4Network
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket

import pytest

from emulators.region.addresses import AddressPool, can_bind, random_network
from emulators.region.home import Home, RegionError
from emulators.region.server import listen


def test_a_state_directory_is_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "state")
    home.make()
    assert home.directory.stat().st_mode & 0o777 == 0o700


def test_two_servers_never_share_a_state_directory(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.holder() is None
    with home.locked():
        assert home.holder() == os.getpid()
        with pytest.raises(RegionError, match="already serves"), Home(tmp_path).locked():
            pass
    assert home.holder() is None
    with home.locked():
        pass


def test_what_a_dead_server_said_does_not_count(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.record({"pid": os.getpid(), "api": "http://127.0.0.1:1"})
    assert home.ready() is None
    with home.locked():
        assert home.ready() == {"pid": os.getpid(), "api": "http://127.0.0.1:1"}
    assert home.ready_file.stat().st_mode & 0o777 == 0o600


def test_a_port_is_kept_where_it_is_still_free() -> None:
    first = listen("127.0.0.1:0")
    port = first.getsockname()[1]
    taken = listen("127.0.0.1:0", f"http://127.0.0.1:{port}")
    assert taken.getsockname()[1] != port
    with pytest.raises(RegionError, match="cannot listen"):
        listen(f"127.0.0.1:{port}")
    first.close()
    taken.close()
    again = listen("127.0.0.1:0", f"http://127.0.0.1:{port}")
    assert again.getsockname()[1] == port
    again.close()


def test_each_network_is_a_loopback_network() -> None:
    for _ in range(50):
        network = random_network()
        assert network.prefixlen == 24
        assert network.subnet_of(IPv4Network("127.16.0.0/12"))


def test_addresses_that_someone_listens_on_are_passed_over() -> None:
    network = random_network()
    with socket(AF_INET, SOCK_STREAM) as busy:
        busy.bind((str(network[2]), 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert not can_bind(str(network[2]), port)
        assert AddressPool(network, port).take() == str(network[3])


def test_an_address_given_back_is_not_the_next_one() -> None:
    pool = AddressPool(random_network(), 2222)
    first = pool.take()
    assert first is not None
    pool.release(first)
    assert pool.take() != first


def test_a_full_network_gives_nothing() -> None:
    network = IPv4Network((int(random_network()[0]), 29))
    pool = AddressPool(network, 2222)
    taken = [pool.take() for _ in range(6)]
    assert taken[-1] is None
    assert len(set(taken)) == 6
    pool.release(str(network[4]))
    assert pool.take() == str(network[4])
