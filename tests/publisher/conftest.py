"""Publisher on real NATS, Postgres and S3, with an executor and a planner that can be told what to answer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import BaseModel

from chassis.context import Context
from chassis.keeper import Keeper
from chassis.postgres import connect
from chassis.service import Chassis, running
from chassis.settings import ServiceSettings
from chassis.testing.eventually import eventually
from chassis.testing.plugin import SettingsOf
from chassis.testing.servers import Database, NatsServer
from contracts.artifacts import (
    AddLink,
    Artifact,
    ListArtifacts,
    PublishPreviewTool,
    WriteFile,
    object_key,
)
from contracts.errors import Code, Rejection, RetryLater
from contracts.executor import NodeStatus, Usage
from contracts.message import Event, Request
from contracts.page import Page
from contracts.planner import GetTask, Task, TaskStatus, TaskWasDeleted
from contracts.previews import GetPreview, ListPreviews, Preview, PreviewState, SubmitPreview
from contracts.refs import BlobRef
from contracts.review import GetReviewCase, ReviewCase
from contracts.run_facts import NodeCompleted, NodeReused
from contracts.task_control import Company, ListCompanies
from contracts.tool import ToolContext
from services.publisher.app import build
from services.publisher.serving import shelf, sites
from services.publisher.settings import PublisherSettings
from tests.review_cases import review_case

A = TypeVar("A", bound=BaseModel)

NEWCOMER = "newcomer"  # a company that has delivered nothing
GUIDE = "# Tides\n\nTwo high waters a day, each about fifty minutes later than the day before."


def a_case(output: str | None = GUIDE, **fields: Any) -> ReviewCase:
    """An attempt that has succeeded. What belongs to the node's spec goes there."""
    spec = {"key": "guide", "role": "writer"}
    given = {"status": NodeStatus.COMPLETED, "output": output, "author": "openai/fake-1"}
    return review_case(spec, **given | fields)


def completed(case: ReviewCase, **fields: Any) -> NodeCompleted:
    given: dict[str, Any] = {
        "run_id": case.run_id,
        "node_id": case.node_id,
        "key": case.spec.key,
        "attempt": case.attempt,
        "checksum": hashlib.sha256((case.output or "").encode()).hexdigest(),
        "output_preview": (case.output or "")[:100],
        "model": "fake-1",
        "usage": Usage(),
        "duration_ms": 1,
    }
    return NodeCompleted.model_validate(given | fields)


def reused(case: ReviewCase, earlier: ReviewCase) -> NodeReused:
    return NodeReused(
        run_id=case.run_id,
        node_id=case.node_id,
        key=case.spec.key,
        attempt=case.attempt,
        from_run_id=earlier.run_id,
        from_node_id=earlier.node_id,
        checksum="0" * 64,
    )


def a_task(task_id: UUID, project: str = "default") -> Task:
    now = datetime.now(UTC)
    return Task(
        id=task_id,
        company_id="default",
        project_id=project,
        title="A guide for sailors",
        description=None,
        status=TaskStatus.READY,
        archived=False,
        ad_hoc=False,
        gate=None,
        plan_id=None,
        run_id=None,
        created_at=now,
        updated_at=now,
    )


@dataclass
class Others:
    """The executor, which knows the cases it was given, and the planner, which knows tasks by id and project."""

    cases: dict[tuple[UUID, int], ReviewCase] = field(default_factory=dict)
    tasks: dict[UUID, Task] = field(default_factory=dict)
    asked: list[Request[Any]] = field(default_factory=list)
    executor: Chassis | None = None
    planner: Chassis | None = None
    is_away: bool = False
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def build_executor(self, chassis: Chassis) -> None:
        self.executor = chassis
        self.may_answer.set()
        chassis.bus.serve(GetReviewCase, self.case)

    async def build_planner(self, chassis: Chassis) -> None:
        self.planner = chassis
        chassis.bus.serve(GetTask, self.task)
        chassis.bus.serve(ListCompanies, self.companies)

    async def case(self, request: GetReviewCase, _: Context) -> ReviewCase:
        self.asked.append(request)
        await self.may_answer.wait()
        if self.is_away:
            raise RetryLater(0.05, "nobody is there")
        found = self.cases.get((request.node_id, request.attempt or 1))
        if found is None:
            raise Rejection(Code.NOT_FOUND, f"there is no node {request.node_id}")
        return found

    async def task(self, request: GetTask, _: Context) -> Task:
        if (found := self.tasks.get(request.task_id)) is None:
            raise Rejection(Code.NOT_FOUND, f"there is no task {request.task_id}")
        return found

    async def companies(self, request: ListCompanies, _: Context) -> Page[Company]:
        now = datetime.now(UTC)
        known = [Company(id=slug, name=slug, created_at=now) for slug in ("default", NEWCOMER)]
        return Page[Company](items=known[request.offset :], total=len(known))


@dataclass
class World:
    others: Others
    start_publisher: Callable[..., AbstractAsyncContextManager[Chassis]]
    urls: dict[str, str]  # publisher's own, as variables of the environment

    @property
    def executor(self) -> Chassis:
        assert self.others.executor is not None
        return self.others.executor

    async def ask(self, request: Request[A]) -> A:
        return await self.executor.bus.ask(request, Context(request_id="test", actor="ann"), patience=60)

    async def tell(self, *facts: Event) -> None:
        """As the executor's outbox does."""
        async with self.executor.uow.begin(Context(request_id="test")) as tx:
            tx.publish(*facts)

    async def complete(self, *cases: ReviewCase) -> None:
        self.others.cases |= {(case.node_id, case.attempt): case for case in cases}
        await self.tell(*(completed(case) for case in cases))

    def task(self, project: str = "default") -> UUID:
        task = a_task(uuid4(), project)
        self.others.tasks[task.id] = task
        return task.id

    async def delete(self, task_id: UUID) -> None:
        """As the planner does; publisher has heard of it."""
        del self.others.tasks[task_id]
        assert self.others.planner is not None
        async with self.others.planner.uow.begin(Context(request_id="test")) as tx:
            tx.publish(TaskWasDeleted(task_id=task_id, title="A guide for sailors"))
        heard = "select 1 from deleted_tasks where task_id = $1"
        await eventually(lambda: self.rows(heard, task_id), what="publisher to hear of the deletion")

    async def artifacts(self, **fields: Any) -> list[Artifact]:
        """The oldest first."""
        return (await self.ask(ListArtifacts(**{"order_by": "created_at", "limit": 200} | fields))).items

    async def collected(self, case: ReviewCase, count: int = 1, **fields: Any) -> dict[str, Artifact]:
        """What an attempt has delivered, by name, once so much is there."""

        async def there() -> list[Artifact]:
            found = [a for a in await self.artifacts(node_id=case.node_id, **fields) if a.attempt == case.attempt]
            return found if len(found) >= count else []

        found = await eventually(there, what=f"{count} artifacts of {case.spec.key}")
        assert len(found) == count, [a.name for a in found]
        return {a.name: a for a in found}

    async def rows(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """As the service's own role: for what no request shows."""
        connection = await connect(self.urls["DATABASE_URL"], "publisher")
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def put(self, data: bytes, content_type: str = "application/octet-stream") -> BlobRef:
        """As the gateway stores what people send."""
        await self.executor.blobs.put(data, company="default/artifacts", content_type=content_type)
        digest = hashlib.sha256(data).hexdigest()
        return BlobRef(key=object_key("default", digest), sha256=digest, size=len(data), content_type=content_type)

    async def submit(self, task_id: UUID, archive: bytes, **fields: Any) -> Preview:
        ref = await self.put(archive, "application/zip")
        return await self.ask(SubmitPreview(command_id=uuid4(), task_id=task_id, ref=ref, **fields))

    async def previews(self, task_id: UUID) -> list[Preview]:
        """The oldest first."""
        return (await self.ask(ListPreviews(task_id=task_id, order_by="version", limit=200))).items

    async def ended(self, preview_id: UUID, state: PreviewState = PreviewState.READY) -> Preview:
        async def there() -> Preview | None:
            found = await self.ask(GetPreview(preview_id=preview_id))
            return found if found.state in (PreviewState.READY, PreviewState.FAILED) else None

        found = await eventually(there, what="the end of the preview's publication")
        assert found.state is state, found.error
        return found


@dataclass
class Agent:
    """Uses the tools as a node's attempt does."""

    world: World
    case: ReviewCase
    effect: int = 0

    def _context(self) -> dict[str, Any]:
        self.effect += 1
        place = {"run_id": self.case.run_id, "node_id": self.case.node_id, "attempt": self.case.attempt}
        return {"command_id": uuid4(), "context": ToolContext(effect=self.effect, **place)}

    async def write(self, path: str, content: str) -> str:
        return await self._told(WriteFile, {"path": path, "content": content})

    async def publish(self, entry: str = "index.html") -> str:
        return await self._told(PublishPreviewTool, {"entry": entry})

    async def link(self, url: str, title: str) -> str:
        return await self._told(AddLink, {"url": url, "title": title})

    async def _told(self, tool: type[Any], arguments: dict[str, Any]) -> str:
        return (await self.world.ask(tool.model_validate({"arguments": arguments, **self._context()}))).text


@pytest.fixture
async def world(
    database: Database,
    nats_server: NatsServer,
    keeper: Keeper,
    object_store: dict[str, str],
    settings_of: SettingsOf,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """The bus, an executor and a planner; publisher is started by the test, or by `live`. It waits for this machine longer
    than it would for one that is away."""
    monkeypatch.setattr(sites, "PATIENCE", 60.0)
    monkeypatch.setattr(shelf, "PATIENCE", 60.0)

    def start_publisher(**fields: Any) -> AbstractAsyncContextManager[Chassis]:
        given = {"preview_port": 0, "lease": 30.0} | fields
        return running("publisher", settings_of(PublisherSettings, "publisher", **given), build)

    others = Others()
    async with (
        running("executor", settings_of(ServiceSettings, "executor"), others.build_executor),
        running("planner", settings_of(ServiceSettings, "planner"), others.build_planner),
    ):
        urls = {"NATS_URL": nats_server.url("publisher"), "DATABASE_URL": database.url_for("publisher")}
        yield World(others, start_publisher, urls | object_store)


@pytest.fixture
async def live(world: World) -> AsyncIterator[World]:
    """The same with publisher running."""
    async with world.start_publisher():
        yield world
