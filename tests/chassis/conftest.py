"""A service of two lines on the real servers, for what the chassis promises to every service."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID, uuid4

import pytest

from chassis.keeper import Keeper, stream_config
from chassis.service import Build, Chassis, running
from chassis.settings import ServiceSettings
from chassis.testing.servers import Database, NatsServer
from contracts import run_facts
from contracts.streams import StreamSpec

Start = Callable[[str, Build], AbstractAsyncContextManager[Chassis]]


@pytest.fixture
def start(
    database: Database,
    nats_server: NatsServer,
    object_store_settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    keeper: Keeper,
) -> Start:
    """Run a service inside this process, with its own database role and its own user of the bus."""
    for name, value in object_store_settings.items():
        monkeypatch.setenv(name, value)

    def _start(name: str, build: Build) -> AbstractAsyncContextManager[Chassis]:
        settings = ServiceSettings(
            nats_url=nats_server.url(name), database_url=database.url_for(name), drain_timeout=3.0, env="test"
        )
        return running(name, settings, build)

    return _start


async def nothing(chassis: Chassis) -> None:
    """A service that does nothing of its own."""


def fact(run_id: UUID | None = None, nodes: int = 1) -> run_facts.RunCompleted:
    return run_facts.RunCompleted(
        run_id=run_id or uuid4(), title="t", nodes_completed=nodes, nodes_skipped=0, cost_usd="0", tokens=0
    )


async def almost_no_room(keeper: Keeper, stream: StreamSpec) -> None:
    """Until the keeper applies the streams as defined."""
    tiny = stream_config(stream, 1)
    tiny.max_bytes = 1_500
    await (await keeper.connect()).update_stream(tiny)
