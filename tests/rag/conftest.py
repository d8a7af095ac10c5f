"""Rag on real NATS, Postgres and S3, with an executor and a publisher that can be told what to answer."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4, uuid5

import asyncpg
import pytest
from pydantic import BaseModel

from chassis.context import Context
from chassis.keeper import Keeper
from chassis.postgres import connect
from chassis.service import Chassis, running
from chassis.settings import ServiceSettings
from chassis.testing.plugin import SettingsOf
from chassis.testing.servers import Database, NatsServer
from contracts.artifacts import ArtifactDetail, GetArtifact
from contracts.budgets import Reserved, ReserveSpend
from contracts.errors import Code, Rejection
from contracts.knowledge import (
    AddDocument,
    CreateSpace,
    Document,
    Embedder,
    Findings,
    Grant,
    Language,
    RemoveDocument,
    Search,
    Searcher,
    Space,
)
from contracts.message import Request
from contracts.review import GetReviewCase, ReviewCase
from services.rag.adapters import vectors
from services.rag.adapters.remote_vectors import RemoteVectors, Server
from services.rag.app import build
from services.rag.domain.analysis import analyse, stems
from services.rag.domain.questions import NoVectors
from services.rag.domain.spending import Buyer
from services.rag.handlers.effects import make_ready
from services.rag.settings import RagSettings
from services.rag.store.index import Built, IndexStore, dense
from tests.rag.embeddings import Embeddings, cashier
from tests.review_cases import review_case

A = TypeVar("A", bound=BaseModel)

WIDTH = 384


def vector_of(text: str) -> list[float]:
    """Words that are the same point the same way: as much meaning as a test needs."""
    found = [0.0] * WIDTH
    for stem in stems(text, Language.EN):
        digest = hashlib.blake2b(stem.encode(), digest_size=4).digest()
        found[int.from_bytes(digest) % WIDTH] += 1.0
    length = math.sqrt(sum(each * each for each in found)) or 1.0
    return [each / length for each in found]


@dataclass
class Words:
    """Instead of a model. `why` it cannot be asked."""

    why: str | None = None
    asked: list[str] = field(default_factory=list)

    async def vector(self, embedder: Embedder, question: str, buyer: Buyer) -> Sequence[float]:
        self.asked.append(question)
        if self.why is not None:
            raise NoVectors(self.why)
        return vector_of(question)


def a_case(**fields: Any) -> ReviewCase:
    """An attempt at work. What belongs to the node's spec goes there."""
    return review_case({"key": "write"}, **fields)


@dataclass
class Others:
    """The executor, which knows the cases it was given, and the publisher, which knows artifacts."""

    cases: dict[UUID, ReviewCase] = field(default_factory=dict)
    artifacts: dict[UUID, ArtifactDetail] = field(default_factory=dict)
    executor: Chassis | None = None

    async def build_executor(self, chassis: Chassis) -> None:
        self.executor = chassis
        chassis.bus.serve(GetReviewCase, self.case)
        chassis.bus.serve(ReserveSpend, self.without_budget)

    async def build_publisher(self, chassis: Chassis) -> None:
        chassis.bus.serve(GetArtifact, self.artifact)

    async def case(self, request: GetReviewCase, _: Context) -> ReviewCase:
        if (found := self.cases.get(request.node_id)) is None:
            raise Rejection(Code.NOT_FOUND, f"there is no node {request.node_id}")
        return found

    async def without_budget(self, _: ReserveSpend, __: Context) -> Reserved:
        return Reserved(reservation=None)

    async def artifact(self, request: GetArtifact, _: Context) -> ArtifactDetail:
        if (found := self.artifacts.get(request.artifact_id)) is None:
            raise Rejection(Code.NOT_FOUND, f"there is no artifact {request.artifact_id}")
        return found


@dataclass
class World:
    others: Others
    words: Words
    start_rag: Callable[..., AbstractAsyncContextManager[Chassis]]
    url: str  # of rag's own role
    environment: dict[str, str]  # of rag as a process
    rag: Chassis | None = None

    @property
    def executor(self) -> Chassis:
        assert self.others.executor is not None
        return self.others.executor

    async def ask(self, request: Request[A]) -> A:
        return await self.executor.bus.ask(request, Context(request_id="test", actor="ann"), patience=60)

    async def space(self, name: str = "Handbook", **fields: Any) -> Space:
        return await self.ask(CreateSpace.model_validate({"command_id": uuid4(), "name": name} | fields))

    async def add(self, space: Space, title: str, text: str = "", **fields: Any) -> Document:
        """As people send text; what becomes of it is the ingestion's."""
        ask = {"command_id": uuid4(), "company": space.company_id, "space_id": space.id, "title": title}
        source = {} if fields.keys() & {"ref", "artifact_id"} else {"text": text or title}
        return await self.ask(AddDocument.model_validate(ask | source | fields))

    async def know(self, space: Space, title: str, *bodies: str, vectors: bool = True, **fields: Any) -> Document:
        """A document that is searched, with a chunk for each body."""
        document = await self.add(space, title, "".join(bodies), **fields)
        await self.make_ready(document, bodies, vectors=vectors)
        return document

    async def build(self, document: Document, bodies: Sequence[str], *, vectors: bool = True) -> None:
        assert self.rag is not None
        index, start, rows = IndexStore(self.rag.pool), 0, list[Built]()
        for ord, body in enumerate(bodies):
            id = uuid5(document.id, f"{document.version} {ord}")
            indexed = analyse(body, None, document.title, document.language)
            rows.append(Built(ord, id, start, start + len(body), None, None, body, indexed))
            start += len(body)
        await index.build(document.id, document.version, rows)
        if vectors:
            found = {ord: vector_of(f"{document.title}. {body}") for ord, body in enumerate(bodies)}
            await index.add_vectors(document.id, document.version, found)
            await self.rag.pool.execute(
                "update versions set title_vector = $3::text::halfvec where document_id = $1 and version = $2",
                *(document.id, document.version, dense(vector_of(document.title))),
            )

    async def make_ready(self, document: Document, bodies: Sequence[str], *, vectors: bool = True) -> bool:
        assert self.rag is not None
        await self.build(document, bodies, vectors=vectors)
        async with self.rag.uow.begin(Context(request_id="test")) as tx:
            return await make_ready(tx, document.id, document.version)

    async def remove(self, document: Document) -> None:
        await self.ask(RemoveDocument(command_id=uuid4(), company=document.company_id, document_id=document.id))

    async def search(self, query: str, searcher: Searcher | None = None, **fields: Any) -> Findings:
        return await self.ask(Search.model_validate({"query": query, "searcher": searcher} | fields))

    async def titles(self, query: str, searcher: Searcher | None = None, **fields: Any) -> list[str]:
        return [item.document.title for item in (await self.search(query, searcher, **fields)).items]

    async def rows(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """As the service's own role: for what no request shows."""
        connection = await connect(self.url, "rag")
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the local model's graph is: built once for all workers."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / "models"


@pytest.fixture
async def world(
    database: Database,
    nats_server: NatsServer,
    keeper: Keeper,
    object_store: dict[str, str],
    settings_of: SettingsOf,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """The bus, an executor and a publisher; rag is started by the test, or by `live`. No question is done without its
    vector because this machine is slow."""
    monkeypatch.setattr(vectors, "PATIENCE", 60.0)
    words = Words()

    def start_rag(*, model: bool = False, **fields: Any) -> AbstractAsyncContextManager[Chassis]:
        """`model`: with the real one, instead of words."""
        given = {"lease": 30.0, "unused_after": 0.0, "home": models.parent, "threads": 2} | fields
        made = build if model else partial(build, questions=words)
        return running("rag", settings_of(RagSettings, "rag", **given), made)

    others = Others()
    async with (
        running("executor", settings_of(ServiceSettings, "executor"), others.build_executor),
        running("publisher", settings_of(ServiceSettings, "publisher"), others.build_publisher),
    ):
        url, nats = database.url_for("rag"), nats_server.url("rag")
        environment = {"NATS_URL": nats, "DATABASE_URL": url, "FLUIDCREW_HOME": str(models.parent)}
        yield World(others, words, start_rag, url, environment | object_store)


@pytest.fixture
async def live(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """The same with rag running. Its jobs of ingestion wait: tests say what is searched."""
    monkeypatch.setattr("services.rag.app.ingestion", lambda *_: None)
    async with world.start_rag() as rag:
        world.rag = rag
        yield world


@pytest.fixture
async def library(world: World) -> AsyncIterator[World]:
    """Rag as it is run, with the local model."""
    async with world.start_rag(model=True) as rag:
        world.rag = rag
        yield world


def reader(principal: str, *, deny: bool = False) -> Grant:
    return Grant(principal=principal, deny=deny)


@pytest.fixture
async def server() -> AsyncIterator[Embeddings]:
    async with Embeddings() as started:
        yield started


@pytest.fixture
async def remote(server: Embeddings) -> AsyncIterator[RemoteVectors]:
    made = RemoteVectors({"openai": Server(server.url, "secret", "OPENAI_BASE_URL")}, cashier())
    yield made
    await made.close()
