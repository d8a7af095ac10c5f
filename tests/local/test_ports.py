"""Ports: below those of outgoing connections, and given to one at a time on this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest

from deploy.local import ports
from deploy.local.environment import CHECKOUT
from deploy.local.home import Home
from deploy.local.ports import free_port, hold, is_free, let_go
from deploy.local.supervisor import check_ports

FEW = 40  # to choose from: what is given twice by chance shows at once


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "SPAN", FEW)
    monkeypatch.setattr(ports, "_held", OrderedDict())  # without those that other tests were given


def test_ports_are_ones_that_no_outgoing_connection_can_be_given() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    port = free_port()
    assert port < low
    assert is_free(port)


@pytest.mark.usefixtures("few")
def test_no_port_is_given_twice_before_anybody_listens_on_it() -> None:
    given = [free_port() for _ in range(FEW // 2)]
    assert len(set(given)) == len(given)


def test_a_port_that_one_process_was_given_is_not_given_to_another() -> None:
    port = free_port()
    assert not held_by_another_process(port)
    let_go(port)
    assert held_by_another_process(port)


@pytest.mark.usefixtures("few")
def test_a_stack_does_not_take_for_itself_the_ports_it_was_told_to_serve_on(tmp_path: Path) -> None:
    told = [free_port() for _ in range(FEW // 2)]
    for port in told:
        let_go(port)  # as when a user's settings name them
    for port, preview_port in zip(told[::2], told[1::2], strict=True):
        check_ports({"PORT": str(port), "PREVIEW_PORT": str(preview_port)})
    home = Home(tmp_path / "home")
    home.prepare()
    assert not set(told) & {home.port(f"part-{n}") for n in range(FEW // 4)}


def test_a_home_keeps_the_port_it_holds_and_leaves_to_others_what_they_hold(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    port = home.port("nats")
    assert Home(tmp_path / "home").port("nats") == port
    let_go(port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as another:
        another.bind(("127.0.0.1", port))
        assert Home(tmp_path / "home").port("nats") != port


@pytest.mark.usefixtures("few")
def test_a_process_holds_the_latest_ports_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "HELD", 4)
    first, *_ = [free_port() for _ in range(5)]
    assert held_by_another_process(first)


def held_by_another_process(port: int) -> bool:
    """Whether another process gets it when it asks."""
    asked = f"from deploy.local.ports import hold; print(hold({port}, 'it'))"
    said = subprocess.run([sys.executable, "-c", asked], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return said.stdout.strip() == "True"


def test_what_is_held_is_told_from_what_is_ours() -> None:
    port = free_port(owner="one")
    assert hold(port, "one")
    assert not hold(port, "two")
