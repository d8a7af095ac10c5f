"""The planner on real NATS and Postgres, with an executor that can be told what to answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from chassis.context import Context
from chassis.keeper import Keeper
from chassis.service import Chassis, running
from chassis.settings import ServiceSettings
from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from chassis.testing.plugin import SettingsOf
from chassis.testing.servers import Database, NatsServer
from contracts import planner, run_facts
from contracts.message import Request
from contracts.planner import Task, TaskCreated
from contracts.run_facts import RunFact
from contracts.task_control import ControlTask, CreateCompany, TaskAction, TaskControlled
from services.planner.app import build
from services.planner.settings import PlannerSettings
from tests.planner.scripted_executor import ENDED_BY, ScriptedExecutor, fact

A = TypeVar("A", bound=BaseModel)


@dataclass
class World:
    """What a test of the planner needs: someone to ask, an executor to script, a planner to stop and start."""

    executor: ScriptedExecutor
    start_planner: Callable[..., AbstractAsyncContextManager[Chassis]]
    files: Path
    urls: dict[str, str]  # the planner's own, as variables of the environment

    async def ask(self, request: Request[A], **kw: Any) -> A:
        assert self.executor.chassis is not None
        return await self.executor.chassis.bus.ask(request, Context(request_id="test"), **({"patience": 60} | kw))

    async def created(self, title: str = "Write a report", **fields: Any) -> TaskCreated:
        return await self.ask(planner.CreateTask(command_id=uuid4(), title=title, **fields))

    async def task(self, title: str = "Write a report", **fields: Any) -> Task:
        return (await self.created(title, **fields)).task

    async def planned(self, title: str = "Write a report", nodes: tuple[str, ...] = ("a", "b"), **fields: Any) -> Task:
        task = await self.task(title, **fields)
        await self.plan(task, nodes)
        return await self.now(task)

    async def plan(self, task: Task, nodes: tuple[str, ...] = ("a", "b")) -> None:
        graph = [{"id": key, "title": key.upper(), "suggested_agent_role": "writer"} for key in nodes]
        asked = {"command_id": uuid4(), "company": task.company_id, "task_id": task.id, "graph": graph}
        await self.ask(planner.CreatePlan.model_validate(asked))

    async def control(self, task: Task, action: TaskAction, **fields: Any) -> TaskControlled:
        return await self.ask(ControlTask(command_id=uuid4(), task_id=task.id, action=action, **fields))

    async def company(self, id: str) -> None:
        await self.ask(CreateCompany(command_id=uuid4(), id=id, name=id.title()))

    async def ends(self, task: Task, run_id: UUID, kind: type[RunFact] = run_facts.RunCompleted) -> None:
        """The run ends, and the executor says so."""
        self.executor.end(run_id, ENDED_BY[kind])
        await self.executor.tell(fact(kind, task, run_id))

    async def now(self, task: Task | UUID) -> Task:
        if isinstance(task, UUID):
            return await self.ask(planner.GetTask(task_id=task))
        return await self.ask(planner.GetTask(company=task.company_id, task_id=task.id))

    async def becomes(self, task: Task, **fields: Any) -> Task:
        """The task, once it is so."""

        async def is_so() -> Task | None:
            now = await self.now(task)
            return now if all(getattr(now, name) == value for name, value in fields.items()) else None

        return await eventually(is_so, what=f"{task.title} becoming {fields}")

    async def started(self, task: Task, **fields: Any) -> UUID:
        about = {"company": task.company_id} | fields
        return (await self.ask(planner.StartTask(command_id=uuid4(), task_id=task.id, **about))).run_id


@pytest.fixture
def supervisor() -> dict[str, str]:
    """The variables of the model that plans: offline, and in no hurry. A module may have another."""
    return {"LLM_DEFAULT_PROVIDER": "demo"}


@asynccontextmanager
async def quick_supervisor() -> AsyncIterator[dict[str, str]]:
    """One that plans at once, for tests that are about other things."""
    async with FakeOpenAI() as server:
        yield {"LLM_DEFAULT_PROVIDER": "openai", "LLM_DEFAULT_MODEL": "fake-1", "OPENAI_BASE_URL": server.base_url}


@pytest.fixture
async def world(
    database: Database,
    nats_server: NatsServer,
    keeper: Keeper,
    object_store: dict[str, str],
    settings_of: SettingsOf,
    supervisor: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncIterator[World]:
    """The bus and a scripted executor; the planner is started by the test, or by `live`."""
    for name, value in supervisor.items():
        monkeypatch.setenv(name, value)
    (files := tmp_path / "task-files").mkdir()

    @asynccontextmanager
    async def start_planner(**fields: Any) -> AsyncIterator[Chassis]:
        defaults = {"task_files_dir": files, "draft_wait": 50.0, "launch_wait": 50.0, "control_wait": 8.0}
        async with running("planner", settings_of(PlannerSettings, "planner", **(defaults | fields)), build) as chassis:
            yield chassis

    scripted = ScriptedExecutor()
    async with running("executor", settings_of(ServiceSettings, "executor"), scripted.build):
        urls = {"NATS_URL": nats_server.url("planner"), "DATABASE_URL": database.url_for("planner")}
        yield World(scripted, start_planner, files, urls)


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
