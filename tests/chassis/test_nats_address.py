"""The address of the bus: several servers, one login that holds for all of them."""

from __future__ import annotations

import pytest

from chassis.nats_address import NatsAddress


@pytest.mark.parametrize(
    ("url", "servers", "login"),
    [
        ("nats://h:4222", ["nats://h:4222"], {}),
        ("nats://u:p@h:4222", ["nats://h:4222"], {"user": "u", "password": "p"}),
        ("nats://t@h:4222", ["nats://h:4222"], {"token": "t"}),
        ("nats://u:p@a:1, nats://u:p@b:2", ["nats://a:1", "nats://b:2"], {"user": "u", "password": "p"}),
    ],
)
def test_the_login_of_the_first_server_is_used_for_those_the_cluster_tells_of(
    url: str, servers: list[str], login: dict[str, str]
) -> None:
    address = NatsAddress.of(url)
    assert address.servers == servers
    assert address.login == login
