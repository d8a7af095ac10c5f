"""Executors on real NATS, Postgres and S3; a client that asks them as the gateway does; a model server with a ledger."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from chassis.context import Context
from chassis.keeper import Keeper
from chassis.service import Build, Chassis, running
from chassis.settings import ServiceSettings
from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from chassis.testing.outbox_table import FACT
from chassis.testing.plugin import SettingsOf
from chassis.testing.servers import Database, NatsServer
from contracts.errors import Rejection
from contracts.executor import (
    ControlRun,
    GetRun,
    Node,
    RunAction,
    RunControlled,
    RunDetail,
    RunNode,
    RunStatus,
    StartRun,
)
from contracts.message import Request
from contracts.tool import UseTool
from services.executor.app import build
from services.executor.settings import ExecutorSettings

A = TypeVar("A", bound=BaseModel)

ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)
#: a lease that no machine is too slow for; a test in which one shall be over says so
QUICK = {"lease_s": 60, "poll_s": 0.1, "drain_s": 0.2}


def agent(key: str, *deps: str, say: str = "", **fields: Any) -> RunNode:
    """A node whose instructions may steer the fake model (chassis/testing/fake_behaviour.py)."""
    return RunNode(key=key, title=f"Node {key}", deps=list(deps), instructions=say or f"Do {key}.", **fields)


def noop(key: str, *deps: str) -> RunNode:
    return RunNode(key=key, title=f"Node {key}", deps=list(deps), kind="noop")


async def refusal(asking: Awaitable[object]) -> Rejection:
    with pytest.raises(Rejection) as refused:
        await asking
    return refused.value


class World:
    """The outside: the gateway's place on the bus, and as many executors as the test starts."""

    def __init__(self, settings: Callable[..., ServiceSettings], database: Database, nats: NatsServer) -> None:
        self._settings = settings
        self.database = database
        self.nats = nats
        self.client: Chassis | None = None

    def executor(self, tools: Sequence[type[UseTool]] = (), **fields: Any) -> AbstractAsyncContextManager[Chassis]:
        settings = self._settings(ExecutorSettings, "executor", **(QUICK | fields))
        return running("executor", settings, partial(build, tools=tools))

    def owner(self, build: Build, name: str = "planner") -> AbstractAsyncContextManager[Chassis]:
        """Another service, such as one that runs tools."""
        return running(name, self._settings(ServiceSettings, name), build)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[World]:
        async def nothing(chassis: Chassis) -> None: ...

        async with running("gateway", self._settings(ServiceSettings, "gateway"), nothing) as self.client:
            yield self

    async def ask(self, request: Request[A], patience: float = 60) -> A:
        assert self.client is not None
        return await self.client.bus.ask(request, Context(request_id="test", correlation_id="story"), patience=patience)

    async def start(self, *nodes: RunNode, **fields: Any) -> UUID:
        given = {"command_id": uuid4(), "run_id": uuid4(), "title": "A task", "nodes": list(nodes), "gate": "off"}
        return (await self.ask(StartRun(**(given | fields)))).run_id

    async def order(self, run_id: UUID, action: str) -> RunControlled:
        return await self.ask(ControlRun(command_id=uuid4(), run_id=run_id, action=RunAction(action)))

    async def run(self, run_id: UUID) -> RunDetail:
        return await self.ask(GetRun(run_id=run_id))

    async def nodes(self, run_id: UUID) -> dict[str, Node]:
        return {node.key: node for node in (await self.run(run_id)).nodes or []}

    async def until(self, run_id: UUID, *statuses: RunStatus, timeout: float = 60) -> RunDetail:
        """The run once it has one of these states; ended, if none is named."""

        async def reached() -> RunDetail | None:
            found = await self.ask(GetRun(run_id=run_id), patience=5)  # asked again: a frozen executor is asked as well
            return found if found.run.status in (statuses or ENDED) else None

        return await eventually(reached, timeout, what=f"run {run_id} in {statuses or ENDED}")

    async def ended(self, run_ids: Sequence[UUID], timeout: float = 60) -> list[RunDetail]:
        return [await self.until(run_id, timeout=timeout) for run_id in run_ids]

    async def facts(self, run_id: UUID) -> list[str]:
        """The types of what was told about a run, in order, from the outbox."""
        rows = await self.rows(f"select {FACT} as type from outbox where story = $1 order by sequence", str(run_id))
        return [row["type"] for row in rows]

    async def fact(self, run_id: UUID, type_name: str) -> dict[str, Any]:
        """The latest fact of this type, from the outbox."""
        rows = await self.rows(
            f"select body from outbox where story = $1 and 'executor.' || {FACT} = $2 order by sequence desc limit 1",
            str(run_id),
            type_name,
        )
        found: dict[str, Any] = json.loads(rows[0]["body"])
        return found

    async def end_leases(self) -> None:
        """Of all executors that there are: as if they had been silent for too long."""
        await self.rows("update workers set lease_until = clock_timestamp() where not dead")

    async def rows(self, sql: str, *arguments: Any) -> list[Any]:
        import asyncpg

        connection = await asyncpg.connect(
            self.database.url_for("executor"), server_settings={"search_path": "executor"}
        )
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()


@pytest.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeOpenAI]:
    """An OpenAI-compatible server on real HTTP, and the executors' default provider."""
    async with FakeOpenAI() as server:
        monkeypatch.setenv("LLM_DEFAULT_PROVIDER", "openai")
        monkeypatch.setenv("LLM_DEFAULT_MODEL", "fake-1")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


@pytest.fixture
async def world(
    database: Database,
    nats_server: NatsServer,
    keeper: Keeper,
    object_store: dict[str, str],
    settings_of: SettingsOf,
) -> AsyncIterator[World]:
    async with World(settings_of, database, nats_server).open() as world:
        yield world


@pytest.fixture
async def live(world: World) -> AsyncIterator[World]:
    """The same with one executor running."""
    async with world.executor():
        yield world
