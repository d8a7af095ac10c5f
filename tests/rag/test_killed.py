"""Killed at each step of ingestion, removal and re-embedding: what is searched is whole, and nothing is left over.

One commit plays one half of the points, the next one the other; CHAOS_HALF=0 or 1 says which, CHAOS_HALF=all both.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest
from pydantic import BaseModel

from chassis.testing.eventually import eventually
from chassis.testing.loopback_http import HttpRequest, HttpResponse
from contracts.errors import FluidcrewError
from contracts.knowledge import (
    AddDocument,
    ChangeSpace,
    Chunking,
    Document,
    DocumentState,
    Embedder,
    GetDocument,
    GetSpace,
    ListSpaces,
    RemoveDocument,
    Search,
    Space,
)
from contracts.message import Request
from tests.killable import killable
from tests.rag.conftest import World
from tests.rag.consistency import faults, news, searched_version
from tests.rag.dying import INGESTING, REEMBEDDING, REMOVING, Point
from tests.rag.embeddings import Embeddings
from tests.rag.library import ended, put

A = TypeVar("A", bound=BaseModel)

EMBEDDERS = [Embedder(provider="openai", model=f"letters-{width}", dimension=width) for width in (8, 16)]
A_TEST = 4  # points
OLD, NEW = "lighthouse", "breakwater"


def parts_of(points: Sequence[Point]) -> pytest.MarkDecorator:
    """Of the half that is played, a few per test."""
    half = os.environ["CHAOS_HALF"]  # tests/conftest.py has set it
    chosen = points if half == "all" else points[int(half) :: 2]
    parts = [chosen[at : at + A_TEST] for at in range(0, len(chosen), A_TEST)]
    return pytest.mark.parametrize("points", parts, ids=lambda part: part[0].name)


def page(word: str) -> bytes:
    """Long enough for two batches of vectors."""
    lines = (f"<p>{f'Paragraph {n} tells of the {word}, and of who keeps it in winter. ' * 11}</p>" for n in range(40))
    return f"<!doctype html><html><body><h1>The {word}</h1>{''.join(lines)}</body></html>".encode()


class Models(Embeddings):
    """Each gives vectors of its own width, which is in its name."""

    async def _answer(self, request: HttpRequest, response: HttpResponse) -> None:
        self._width = int(json.loads(request.body)["model"].rpartition("-")[2])  # nothing is awaited before its use
        await super()._answer(request, response)


class Stage:
    """A rag that only searches and never dies; and, one after the other, those that do all the rest until they die."""

    def __init__(self, world: World, server: Models, folder: Path) -> None:
        self.world = world
        self._server = server
        self._folder = folder
        self._stack = AsyncExitStack()
        self._armed = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, point: Point) -> None:
        """One that will die there, once it is armed."""
        self._armed = self._folder / uuid4().hex
        given = {"ENV": "test", "RAG_LEASE": "1", "RAG_THREADS": "1", "RAG_UNUSED_AFTER": "0"}
        environment = self.world.environment | given | {"OPENAI_BASE_URL": self._server.url}
        main = ("tests.rag.dying", point.name, str(self._armed))
        self._process = await self._stack.enter_async_context(killable("rag", environment, main))

        async def answers() -> bool:
            await self.world.ask(ListSpaces())
            return True

        await eventually(answers, what="rag", timeout=60)

    async def dies(self, *orders: Request[A]) -> None:
        """Of these orders, answered or not."""
        assert self._process is not None
        self._armed.touch()
        asks = [asyncio.create_task(self.world.ask(order)) for order in orders]
        async with asyncio.timeout(90):
            assert await self._process.wait() == -9
        for ask in asks:
            ask.cancel()
        for answer in await asyncio.gather(*asks, return_exceptions=True):
            assert isinstance(answer, (BaseModel, FluidcrewError, asyncio.CancelledError)), answer

    async def is_over(self, *watched: Document) -> None:
        """The work that was under way; meanwhile each of them is searched whole."""

        async def over() -> bool:
            for document in watched:
                await self.look(document)
            return not await self.world.rows("select 1 from jobs where state in ('queued', 'running')")

        await eventually(over, what="the end of its work", timeout=60)
        assert await faults(self.world) == {}

    async def look(self, document: Document) -> set[int]:
        """The version that a search finds: one, and of it only what it says."""
        await searched_version(self.world, document.id)
        found = await self.world.search("who keeps it in winter", document_ids=[document.id])
        assert found.degraded is None, found.degraded
        versions = {item.document.version for item in found.items}
        words = {word for item in found.items for word in (OLD, NEW) if word in item.text}
        assert (len(versions) <= 1, len(words) <= 1) == (True, True), (versions, words)
        return versions

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def stage(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Stage]:
    monkeypatch.setattr("services.rag.app.subscribe", lambda bus, *others: bus.serve(Search, others[2].search))
    monkeypatch.setattr("services.rag.app.ingestion", lambda chassis, *others: chassis.on_close(others[-1].close))
    monkeypatch.setattr("services.rag.app.DELETE", "nobody's")
    async with Models() as server, world.start_rag(model=True, openai_base_url=server.url):
        made = Stage(world, server, tmp_path)
        yield made
        await made.close()


async def a_page(world: World, space: Space, title: str, word: str) -> AddDocument:
    ref = await put(world, page(word), "text/html")
    return AddDocument(command_id=uuid4(), space_id=space.id, title=title, ref=ref, name=f"{title}.html")


def in_turn(points: Sequence[Point]) -> list[tuple[Point, Point]]:
    """Each, and the one after it, whose process finishes what was begun."""
    return list(zip(points, [*points[1:], points[0]], strict=True))


@parts_of(INGESTING)
async def test_a_version_whose_rag_is_killed_at_any_step_is_searched_whole_in_the_end(
    stage: Stage, points: Sequence[Point]
) -> None:
    world = stage.world
    await stage.start(points[0])
    space = await world.space(embedder=EMBEDDERS[0].model_dump())
    for at, (point, following) in enumerate(in_turn(points)):
        before = await ended(world, await world.ask(await a_page(world, space, f"Second {at}", OLD)))
        orders = [await a_page(world, space, f"{name} {at}", NEW) for name in ("First", "Second")]
        await stage.dies(*orders)
        assert await stage.look(before) <= {1, 2}, point
        await stage.start(following)
        first, second = [await world.ask(order) for order in orders]
        await stage.is_over(before, first)
        for document, version in ((first, 1), (second, 2)):
            found = await world.ask(GetDocument(document_id=document.id))
            assert (found.state, found.version, found.searchable) == (DocumentState.READY, version, version), point
            assert await stage.look(found) == {version}
            told = await news(world, document.id)
            assert [told.count(("ready", n + 1)) for n in range(version)] == [1] * version, (point, told)


@parts_of(REMOVING)
async def test_a_document_whose_rag_is_killed_while_it_is_removed_is_there_whole_or_not_at_all(
    stage: Stage, points: Sequence[Point]
) -> None:
    world = stage.world
    await stage.start(points[0])
    space = await world.space(embedder=EMBEDDERS[0].model_dump())
    kept = await ended(world, await world.ask(await a_page(world, space, "Kept", OLD)))
    for at, (point, following) in enumerate(in_turn(points)):
        document = await ended(world, await world.ask(await a_page(world, space, f"Removed {at}", NEW)))
        order = RemoveDocument(command_id=uuid4(), document_id=document.id)
        await stage.dies(order)
        assert await stage.look(document) <= {1}, point
        await stage.start(following)
        assert (await world.ask(order)).removed.id == document.id
        await stage.is_over(document, kept)
        assert await stage.look(document) == set(), point
        assert await stage.look(kept) == {1}
        assert (await news(world, document.id)).count(("removed", 1)) == 1, point


@parts_of(REEMBEDDING)
async def test_a_space_whose_rag_is_killed_while_it_is_made_anew_never_mixes_models(
    stage: Stage, points: Sequence[Point]
) -> None:
    world = stage.world
    await stage.start(points[0])
    space = await world.space(embedder=EMBEDDERS[0].model_dump())
    documents = [await ended(world, await world.ask(await a_page(world, space, word, word))) for word in (OLD, NEW)]
    for at, (point, following) in enumerate(in_turn(points), 1):
        order = ChangeSpace(
            command_id=uuid4(), space_id=space.id, embedder=EMBEDDERS[at % 2], chunking=Chunking(target=500 + at)
        )
        await stage.dies(order)
        for document in documents:
            assert await stage.look(document) == {1}, point
        await stage.start(following)
        await world.ask(order)
        await stage.is_over(*documents)
        now = await world.ask(GetSpace(space_id=space.id))
        assert (now.reindexing, now.embedder, now.chunking.target) == (False, EMBEDDERS[at % 2], 500 + at), point
        for document in documents:
            told = await news(world, document.id)
            assert (told.count(("ready", 1)), told[-1]) == (1 + at, ("ready", 1)), (point, told)
            assert await stage.look(document) == {1}
