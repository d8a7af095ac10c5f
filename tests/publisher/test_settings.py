"""What publisher refuses to start with, in words that say what to change."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from chassis.settings import BadSettings
from services.publisher.app import listen
from services.publisher.settings import PublisherSettings


def settings(**fields: Any) -> PublisherSettings:
    loaded: PublisherSettings = PublisherSettings.load(nats_url="nats://x", database_url="postgresql://x", **fields)
    return loaded


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(BadSettings, match=rf"cannot listen on 127.0.0.1:{port} .* set PREVIEW_PORT to a free port"):
            listen(settings(preview_port=port))


def test_two_publishers_share_a_port() -> None:
    with listen(settings(preview_port=0)) as first:
        port = first.getsockname()[1]
        with listen(settings(preview_port=port)) as second:
            assert second.getsockname()[1] == port


@pytest.mark.parametrize(
    "url",
    [
        *("previews.example.com", "ftp://x", "https://x/path", "https://u:p@x", "https://", "https://x:99999"),
        *(
            "http://127.0.0.1:8001",
            "http://[::1]:8001",
            "http://a b.example",
            "https://x?y",
            "https://x#y",
            "https://-x",
        ),
    ],
)
def test_what_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(BadSettings, match=r"PREVIEW_URL: .* is no origin"):
        settings(preview_url=url)


def test_previews_are_reached_as_they_are_said_to_be() -> None:
    assert settings(preview_url="https://previews.example.com/").origin(1) == "https://previews.example.com"
    assert settings(preview_url=" ").origin(8001) == "http://localhost:8001"
    assert settings(preview_frames="https://a.example/, ,http://b").frames == ("https://a.example", "http://b")


def test_bytes_get_time_to_be_named() -> None:
    with pytest.raises(BadSettings, match="give at least 3600 s"):
        settings(unused_after=10)
    assert settings(unused_after=10, env="test").unused_after == 10
