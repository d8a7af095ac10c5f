"""The planner on real NATS and Postgres, with an executor that can be told what to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from chassis.context import Context
from chassis.keeper import Keeper
from chassis.service import Chassis, running
from chassis.settings import ServiceSettings
from chassis.testing.fake_openai import FakeOpenAI
from chassis.testing.servers import Database, NatsServer
from contracts import planner
from contracts.errors import Code, Rejection, RetryLater
from contracts.executor import RunFact, RunStartedAnswer, StartRun
from contracts.message import Request
from contracts.planner import Task
from services.planner.app import build
from services.planner.settings import PlannerSettings

A = TypeVar("A", bound=BaseModel)


@dataclass
class ScriptedExecutor:
    """Keeps the executor's promises (one order one answer, one active run per task) and fails as told."""

    asked: list[StartRun] = field(default_factory=list)
    active: dict[UUID | None, UUID] = field(default_factory=dict)
    answered: dict[UUID, UUID] = field(default_factory=dict)
    refusal: Rejection | None = None
    loses_answers: bool = False
    takes: float = 0.0  # seconds; who repeats the order meanwhile hears that it is in flight
    in_flight: set[UUID] = field(default_factory=set)
    chassis: Chassis | None = None

    async def build(self, chassis: Chassis) -> None:
        self.chassis = chassis
        chassis.bus.serve(StartRun, self.start)

    async def start(self, order: StartRun, _: Context) -> RunStartedAnswer:
        if order.command_id in self.in_flight:
            raise Rejection(Code.IN_FLIGHT, "the same request is being answered right now")
        self.in_flight.add(order.command_id)
        try:
            await asyncio.sleep(self.takes)
            return self._answer(order)
        finally:
            self.in_flight.discard(order.command_id)

    def _answer(self, order: StartRun) -> RunStartedAnswer:
        self.asked.append(order)
        if self.refusal is not None:
            raise self.refusal
        if order.command_id not in self.answered:
            if (active := self.active.get(order.task_id)) is not None:
                raise Rejection(Code.RUN_ACTIVE, "this task has an active run", run_id=str(active))
            self.active[order.task_id] = self.answered[order.command_id] = order.run_id
        if self.loses_answers:
            raise RetryLater(0.1, "the answer got lost")
        return RunStartedAnswer(run_id=self.answered[order.command_id])

    async def tell(self, *facts: RunFact) -> None:
        assert self.chassis is not None
        async with self.chassis.uow.begin() as tx:
            tx.publish(*facts)


@dataclass
class World:
    """What a test of the planner needs: someone to ask, an executor to script, a planner to stop and start."""

    executor: ScriptedExecutor
    start_planner: Callable[..., AbstractAsyncContextManager[Chassis]]
    files: Path
    urls: dict[str, str]  # the planner's own, as variables of the environment

    async def ask(self, request: Request[A], **kw: Any) -> A:
        assert self.executor.chassis is not None
        return await self.executor.chassis.bus.ask(request, Context(request_id="test"), **kw)

    async def task(self, title: str = "Write a report", **fields: Any) -> Task:
        created = await self.ask(planner.CreateTask(command_id=uuid4(), title=title, **fields))
        return created.task

    async def planned(self, title: str = "Write a report", nodes: tuple[str, ...] = ("a", "b")) -> Task:
        task = await self.task(title)
        graph = [{"id": key, "title": key.upper(), "suggested_agent_role": "writer"} for key in nodes]
        await self.ask(planner.CreatePlan.model_validate({"command_id": uuid4(), "task_id": task.id, "graph": graph}))
        return await self.now(task)

    async def now(self, task: Task | UUID) -> Task:
        return await self.ask(planner.GetTask(task_id=task if isinstance(task, UUID) else task.id))

    async def started(self, task: Task, **fields: Any) -> UUID:
        return (await self.ask(planner.StartTask(command_id=uuid4(), task_id=task.id, **fields))).run_id


@pytest.fixture
async def world(
    database: Database,
    nats_server: NatsServer,
    object_store_settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncIterator[World]:
    """The bus and a scripted executor; the planner is started by the test, or by `live`."""
    for name, value in {**object_store_settings, "LLM_DEFAULT_PROVIDER": "demo"}.items():
        monkeypatch.setenv(name, value)
    (files := tmp_path / "task-files").mkdir()
    keeper = Keeper(nats_server.url())
    await keeper.apply()

    def settings(kind: type[ServiceSettings], service: str, **fields: Any) -> ServiceSettings:
        urls = {"nats_url": nats_server.url(service), "database_url": database.url_for(service)}
        return kind(**urls, drain_timeout=3.0, env="test", **fields)

    @asynccontextmanager
    async def start_planner(**fields: Any) -> AsyncIterator[Chassis]:
        defaults = {"task_files_dir": files, "draft_wait": 20.0, "launch_wait": 20.0}
        async with running("planner", settings(PlannerSettings, "planner", **(defaults | fields)), build) as chassis:
            yield chassis

    executor = ScriptedExecutor()
    async with running("executor", settings(ServiceSettings, "executor"), executor.build):
        urls = {"NATS_URL": nats_server.url("planner"), "DATABASE_URL": database.url_for("planner")}
        yield World(executor, start_planner, files, urls)
    await keeper.close()


@pytest.fixture
async def live(world: World) -> AsyncIterator[World]:
    """The same with a planner running."""
    async with world.start_planner():
        yield world


@pytest.fixture
async def model(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeOpenAI]:
    """An OpenAI-compatible server that the planner started next will use."""
    async with FakeOpenAI() as server:
        monkeypatch.setenv("LLM_DEFAULT_PROVIDER", "openai")
        monkeypatch.setenv("LLM_DEFAULT_MODEL", "fake-1")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server
