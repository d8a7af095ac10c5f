"""Planner and executor together, as they are: steered tasks, retries that pay nothing twice, chains of tasks, a kill."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
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
from chassis.testing.servers import Database, NatsServer
from contracts.executor import GetRun, ListRuns, NodeStatus, RunDetail, RunStatus
from contracts.message import Request
from contracts.planner import CreatePlan, CreateTask, GetTask, StartTask, Task, TaskStatus
from contracts.task_control import ControlTask, RetryTask, TaskAction
from services.executor.app import build as build_executor
from services.executor.settings import ExecutorSettings
from services.planner.app import build as build_planner
from services.planner.settings import PlannerSettings

A = TypeVar("A", bound=BaseModel)


class Both:
    def __init__(self, client: Chassis, model: FakeOpenAI) -> None:
        self.client = client
        self.model = model

    async def ask(self, request: Request[A]) -> A:
        return await self.client.bus.ask(request, Context(request_id="test"), patience=60)

    async def task(self, title: str, *nodes: dict[str, Any], **fields: Any) -> Task:
        task = (await self.ask(CreateTask(command_id=uuid4(), title=title, **fields))).task
        graph = [{"title": node["id"], **node} for node in nodes]
        await self.ask(CreatePlan.model_validate({"command_id": uuid4(), "task_id": task.id, "graph": graph}))
        return task

    async def now(self, task: Task) -> Task:
        return await self.ask(GetTask(task_id=task.id))

    async def becomes(self, task: Task, status: TaskStatus) -> Task:
        async def is_so() -> Task | None:
            now = await self.now(task)
            return now if now.status is status else None

        return await eventually(is_so, what=f"{task.title} becoming {status}")

    async def start(self, task: Task) -> UUID:
        return (await self.ask(StartTask(command_id=uuid4(), task_id=task.id))).run_id

    async def control(self, task: Task, action: TaskAction, **fields: Any) -> None:
        await self.ask(ControlTask(command_id=uuid4(), task_id=task.id, action=action, **fields))

    async def run(self, run_id: UUID) -> RunDetail:
        return await self.ask(GetRun(run_id=run_id))


Settings = Callable[..., Any]


@pytest.fixture
def settings(
    database: Database,
    nats_server: NatsServer,
    keeper: Keeper,
    object_store_settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    for name, value in object_store_settings.items():
        monkeypatch.setenv(name, value)

    def made(kind: type[ServiceSettings], service: str, **fields: Any) -> ServiceSettings:
        urls = {"nats_url": nats_server.url(service), "database_url": database.url_for(service)}
        return kind(**urls, drain_timeout=3.0, env="test", **fields)

    return made


@pytest.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        named = {"LLM_DEFAULT_PROVIDER": "openai", "LLM_DEFAULT_MODEL": "fake-1", "OPENAI_BASE_URL": server.base_url}
        for name, value in named.items():
            monkeypatch.setenv(name, value)
        yield server


async def _nothing(_: Chassis) -> None: ...


@pytest.fixture
async def executor(settings: Settings, model: FakeOpenAI) -> AsyncIterator[Both]:
    """An executor, and somebody to ask; the planner is started by `both`, or by the test."""
    async with AsyncExitStack() as stack:
        quick = {"lease_s": 60, "poll_s": 0.1, "drain_s": 0.2, "default_gate": "off"}
        await stack.enter_async_context(
            running("executor", settings(ExecutorSettings, "executor", **quick), build_executor)
        )
        client = await stack.enter_async_context(running("gateway", settings(ServiceSettings, "gateway"), _nothing))
        yield Both(client, model)


@pytest.fixture
async def both(executor: Both, settings: Settings) -> AsyncIterator[Both]:
    async with running("planner", settings(PlannerSettings, "planner"), build_planner):
        yield executor


HELD = {"id": "held", "instructions": "until-released"}
NOOP = {"id": "only", "kind": "noop"}


async def test_a_canceled_task_hangs_up_on_its_model_and_runs_again_after_a_reset(both: Both) -> None:
    task = await both.task("Cancel me", HELD)
    run_id = await both.start(task)
    await both.model.until(lambda: len(both.model.calls) == 1)
    await both.control(task, TaskAction.CANCEL)
    assert (await both.becomes(task, TaskStatus.READY)).control.cancel
    assert (await both.run(run_id)).run.status is RunStatus.CANCELED
    await both.model.until(lambda: both.model.calls[0].outcome == "disconnected")
    await both.control(task, TaskAction.RESET)
    both.model.release()
    await both.start(task)
    await both.becomes(task, TaskStatus.COMPLETED)


async def test_a_paused_task_goes_on_where_it_was(both: Both) -> None:
    task = await both.task("Pause me", HELD, {"id": "next", "deps": ["held"], "instructions": "say:ok"})
    run_id = await both.start(task)
    await both.model.until(lambda: len(both.model.calls) == 1)
    await both.control(task, TaskAction.PAUSE, by="ada")
    both.model.release()
    await both.becomes(task, TaskStatus.PAUSED)
    found = await both.run(run_id)
    assert found.run.control is not None
    assert found.run.control.asked_by == "ada"
    assert {node.key: node.status for node in found.nodes or []}["held"] is NodeStatus.COMPLETED
    await both.control(task, TaskAction.RESUME)
    await both.becomes(task, TaskStatus.COMPLETED)
    assert len(both.model.calls) == 2


async def test_a_retry_pays_for_nothing_that_is_done(both: Both) -> None:
    task = await both.task(
        "Retry me",
        {"id": "good", "instructions": "say:fine"},
        {"id": "bad", "deps": ["good"], "instructions": "fail:400:1 say:better", "max_attempts": 1},
    )
    first = await both.start(task)
    await both.becomes(task, TaskStatus.FAILED)
    accepted = await both.ask(RetryTask(command_id=uuid4(), task_id=task.id))
    await both.becomes(task, TaskStatus.COMPLETED)
    found = await both.run(accepted.run_id)
    assert found.run.reuses_run_id == first
    assert {node.key: node.reused_from is not None for node in found.nodes or []} == {"good": True, "bad": False}
    assert len(both.model.calls) == 3


async def test_tasks_that_wait_for_each_other_run_by_themselves_one_after_the_other(both: Both) -> None:
    async def waiter(title: str, *on: Task) -> Task:
        ids = [task.id for task in on]
        return (await both.ask(CreateTask(command_id=uuid4(), title=title, auto_start=True, dependencies=ids))).task

    root = await both.task("Root", NOOP)
    branches = [await waiter(f"Branch {n}", root) for n in range(2)]
    join = await waiter("Join", *branches)
    await both.start(root)
    await both.becomes(join, TaskStatus.COMPLETED)
    runs = [(await both.ask(ListRuns(task_id=task.id))).items for task in (root, *branches, join)]
    assert [len(items) for items in runs] == [1, 1, 1, 1]
    [_, *middle, last] = [items[0] for items in runs]
    assert all(run.ended_at and run.ended_at <= last.created_at for run in middle)


async def test_a_planner_killed_while_the_last_completion_comes_starts_the_waiting_task_once(
    executor: Both, settings: Settings, database: Database, nats_server: NatsServer, tmp_path: Path
) -> None:
    urls = {"NATS_URL": nats_server.url("planner"), "DATABASE_URL": database.url_for("planner")}
    command = [sys.executable, "-m", "services.planner"]
    with (tmp_path / "planner.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **urls}, stdout=log, stderr=log)
    try:
        first = await eventually(lambda: executor.task("First", HELD), what="the planner answers")
        executor.model.release()
        order = CreateTask(command_id=uuid4(), title="Waits", auto_start=True, dependencies=[first.id])
        waiting = (await executor.ask(order)).task
        await executor.start(first)

        async def is_over() -> bool:
            run_id = (await executor.now(first)).run_id
            return run_id is not None and (await executor.run(run_id)).run.status is RunStatus.COMPLETED

        await eventually(is_over, interval=0.001)
    finally:
        process.kill()
        await process.wait()
    async with running("planner", settings(PlannerSettings, "planner"), build_planner):
        await executor.becomes(waiting, TaskStatus.COMPLETED)
        assert (await executor.ask(ListRuns(task_id=waiting.id))).total == 1
