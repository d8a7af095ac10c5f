"""A real gateway behind a real HTTP server, on the real bus and database; the owners are services of a few lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import nats
import pytest
from nats.js import JetStreamContext

from chassis import asking
from chassis.bus import MessageHandler
from chassis.context import Context
from chassis.keeper import Keeper
from chassis.service import Chassis, running
from chassis.settings import ServiceSettings
from chassis.testing.servers import Database, NatsServer
from contracts.message import Event, Message, Request
from contracts.streams import ConsumerSpec
from services.gateway import delivered, judging
from services.gateway.__main__ import Server, server_config
from services.gateway.app import Api, create_app
from services.gateway.deps import Parts
from services.gateway.settings import GatewaySettings

KEY = "test-key"

Answer = Callable[[Any], Any]


@dataclass
class Owner:
    """A service that answers what the test tells it to, remembers what it was asked, and publishes facts."""

    chassis: Chassis
    asked: list[tuple[Any, Context]] = field(default_factory=list)

    async def tell(self, *facts: Event, request_id: str = "") -> None:
        async with self.chassis.uow.begin(Context(request_id=request_id)) as tx:
            tx.publish(*facts)


@dataclass
class Gateway:
    app: Api
    url: str
    client: httpx.AsyncClient

    @property
    def parts(self) -> Parts:
        parts: Parts = self.app.state.parts
        return parts


StartGateway = Callable[..., AbstractAsyncContextManager[Gateway]]
StartOwner = Callable[..., AbstractAsyncContextManager[Owner]]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is slow for a moment is not what is tested: nothing is done without or refused, and nothing asked
    again."""
    monkeypatch.setattr(Request, "waits", lambda _: 60.0)
    monkeypatch.setattr(judging, "PATIENCE", 60.0)
    monkeypatch.setattr(delivered, "PATIENCE", 60.0)
    monkeypatch.setattr(asking, "ASK_AGAIN_AFTER", (60.0, 60.0))


@pytest.fixture
async def stream(nats_server: NatsServer, keeper: Keeper) -> AsyncIterator[JetStreamContext]:
    """The bus without any of our care: whoever publishes here may repeat and invert as much as it likes."""
    nc = await nats.connect(nats_server.url())
    yield nc.jetstream(timeout=60)
    await nc.close()


@pytest.fixture
async def table(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.url)
    yield connection
    await connection.close()


@pytest.fixture
def start_owner(database: Database, nats_server: NatsServer, keeper: Keeper) -> StartOwner:
    @asynccontextmanager
    async def start(
        name: str,
        answers: dict[type[Request[Any]], Answer] | None = None,
        hears: dict[ConsumerSpec, dict[type[Message], MessageHandler]] | None = None,
    ) -> AsyncIterator[Owner]:
        asked: list[tuple[Any, Context]] = []

        async def build(chassis: Chassis) -> None:
            for request, answer in (answers or {}).items():
                chassis.bus.serve(request, _handler(answer, asked))
            for consumer, handlers in (hears or {}).items():
                chassis.bus.on(consumer, handlers)

        settings = ServiceSettings(
            nats_url=nats_server.url(name), database_url=database.url_for(name), drain_timeout=2.0, env="test"
        )
        async with running(name, settings, build) as chassis:
            yield Owner(chassis, asked)

    return start


def _handler(answer: Answer, asked: list[tuple[Any, Context]]) -> Callable[[Any, Context], Awaitable[Any]]:
    async def handle(request: Any, context: Context) -> Any:
        asked.append((request, context))
        said = answer(request)
        return await said if isinstance(said, Awaitable) else said

    return handle


@pytest.fixture
def start_gateway(database: Database, nats_server: NatsServer, keeper: Keeper) -> StartGateway:
    @asynccontextmanager
    async def start(**overrides: Any) -> AsyncIterator[Gateway]:
        given: dict[str, Any] = {
            "nats_url": nats_server.url("gateway"),
            "database_url": database.url_for("gateway"),
            "drain_timeout": 3.0,
            "port": 0,
            "feed_poll": 0.2,
        }
        app = create_app(GatewaySettings(**(given | overrides)))
        server = Server(server_config(app, app.settings))
        serving = asyncio.create_task(server.serve())
        try:
            while not server.started:
                assert not serving.done(), "the gateway did not start"
                await asyncio.sleep(0.005)
            url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": KEY}, timeout=60) as client:
                yield Gateway(app, url, client)
        finally:
            server.should_exit = True
            await serving

    return start


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> AsyncIterator[Gateway]:
    """One gateway, and nobody else on the bus."""
    async with start_gateway() as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> httpx.AsyncClient:
    return gateway.client
