"""Loopback addresses: each instance that asks for an external address gets one of its own."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from pathlib import Path

_UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def random_network() -> IPv4Network:
    """A /24 of 127.16.0.0/12, so that regions on one host rarely meet."""
    number = random.SystemRandom().randrange(1 << 12)
    return IPv4Network((int(IPv4Address("127.16.0.0")) + (number << 8), 24))


def can_bind(address: str, port: int) -> bool:
    """Whether nobody listens on that address and port, and this process may."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Without it, connections of a former instance in TIME_WAIT would count as a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL}:
                return False
            raise
    return True


def usable_ssh_port(network: IPv4Network) -> int:
    """Port 22 where this process may listen on it and no SSH server of the host has it, else 2222."""
    return 22 if can_bind(str(network[1]), 22) else 2222


class AddressPool:
    """The addresses of one network. The first is the region's own, the last is the broadcast address.

    Those of an IPv6 network can be given out, but no guest answers there: of all that a host has without set-up, only
    127.0.0.0/8 is a whole network.
    """

    def __init__(self, network: IPv4Network | IPv6Network, port: int) -> None:
        self.network = network
        self.port = port
        self._taken: set[str] = set()
        self._next = 2

    @property
    def gateway(self) -> str:
        """The region's own address: outbound connections of all instances come from there."""
        return str(self.network[1])

    def reserve(self, addresses: Iterable[str]) -> None:
        """Mark addresses as taken, such as those of instances that outlived a restart."""
        self._taken.update(addresses)

    def is_free(self, address: str) -> bool:
        """Whether an address is of this pool and nobody has it."""
        return ip_address(address) in self.network and self._usable(address)

    def take(self) -> str | None:
        """The next free address, or None when all are taken.

        Goes round the network, so that an address just given back is not used again at once: a client's
        known_hosts and open connections belong to the former instance.
        """
        usable = self.network.num_addresses - 3
        for _ in range(max(0, usable)):
            address = str(self.network[self._next])
            self._next = self._next + 1 if self._next < usable + 1 else 2
            if self._usable(address):
                self._taken.add(address)
                return address
        return None

    def _usable(self, address: str) -> bool:
        return address not in self._taken and (self.network.version == 6 or can_bind(address, self.port))

    def release(self, address: str) -> None:
        """Give an address back."""
        self._taken.discard(address)
