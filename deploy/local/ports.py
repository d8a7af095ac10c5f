"""Ports of this machine's loopback: which are free, and who has been given one that nobody listens on yet."""

from __future__ import annotations

import random
import socket
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path

SPAN = 16384  # ports to choose from, below those of outgoing connections
HELD = 64  # by one process: whoever was given an earlier one has long been listening

_random = random.SystemRandom()  # test libraries seed the shared one: parallel tests would get the same ports
_held: OrderedDict[int, tuple[str, socket.socket]] = OrderedDict()  # port -> for whom, and what holds it


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def hold(port: int, owner: str) -> bool:
    """Keeps every other owner, here and in other processes, from being given this port; False when one has it.

    Held is the UDP port of the same number: it is in no server's way, and the kernel lets go of it with this process.
    """
    if port in _held:
        return _held[port][0] == owner
    mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        mark.bind(("127.0.0.1", port))
    except OSError:
        mark.close()
        return False
    _held[port] = owner, mark
    while len(_held) > HELD:
        let_go(next(iter(_held)))
    return True


def let_go(port: int) -> None:
    _, mark = _held.pop(port)
    mark.close()


def free_port(avoid: Collection[int] = (), owner: str = "") -> int:
    """A free loopback port below the range the kernel gives to outgoing connections, held until it is used.

    A client that keeps dialling a server that is down may otherwise be given that very port as its own,
    connect to itself, and keep the server from coming back.
    """
    lowest = _lowest_ephemeral_port()
    for _ in range(200):
        port = _random.randrange(max(1024, lowest - SPAN), lowest)
        if port not in avoid and port not in _held and is_free(port) and hold(port, owner):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _lowest_ephemeral_port() -> int:
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32768
    return low if low > 4096 else 32768
