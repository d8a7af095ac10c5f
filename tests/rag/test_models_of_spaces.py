"""Vectors by another model, later, or not at all: what is searched stays whole, and words are found meanwhile."""

from __future__ import annotations

import sys
from typing import Any
from uuid import uuid4

import pytest

from chassis.testing.eventually import eventually
from contracts.knowledge import (
    ChangeSpace,
    Chunking,
    DocumentState,
    Embedder,
    GetDocument,
    GetSpace,
    Space,
)
from services.rag.adapters import local_model
from tests.rag.conftest import World
from tests.rag.embeddings import Embeddings
from tests.rag.library import LONG, TIDES, ended


async def superseded(world: World) -> None:
    """What was searched before is gone."""

    async def over() -> bool:
        return not await world.rows("select 1 from jobs where kind = 'supersede' and state in ('queued', 'running')")

    await eventually(over, what="the end of the index before")


async def test_without_a_model_words_are_found_and_vectors_come_later(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    there = local_model.COMMAND
    script = tmp_path / "worker.py"
    script.write_text('print(\'{"error": "the model is not installed"}\')')
    monkeypatch.setattr(local_model, "COMMAND", (sys.executable, "-I", str(script)))
    monkeypatch.setattr(local_model, "REFUSED", 0.0)
    monkeypatch.setattr("services.rag.handlers.reembedding.PAUSE", 0.1)
    async with world.start_rag(model=True):
        space = await world.space()
        document = await ended(world, await world.add(space, "Tides", TIDES))
        found = await world.search("high waters")
        assert [item.document.title for item in found.items] == ["Tides"]
        assert "not installed" in (found.degraded or "")
        assert await world.rows("select 1 from vectors") == []
        monkeypatch.setattr(local_model, "COMMAND", there)

        async def embedded() -> bool:
            return len(await world.rows("select 1 from vectors where document_id = $1", document.id)) == document.chunks

        await eventually(embedded, what="vectors of what had none")
        assert (await world.search("how often does the sea rise")).degraded is None
        assert (await world.rows("select title_vector is not null from documents"))[0][0]


async def test_a_space_is_made_anew_at_once_and_searched_meanwhile(library: World) -> None:
    space = await library.space()
    for title, text in (("Harbour", LONG[:6000]), ("Tides", TIDES)):
        await ended(library, await library.add(space, title, text))
    before = (await library.ask(GetSpace(space_id=space.id))).chunks
    await library.ask(ChangeSpace(command_id=uuid4(), space_id=space.id, chunking=Chunking(target=300)))

    first = set[str]()

    async def done() -> Space | None:
        first.add((await library.titles("fifty minutes"))[0])
        found = await library.ask(GetSpace(space_id=space.id))
        return None if found.reindexing else found

    after = await eventually(done, what="the end of the reindexing", timeout=60)
    assert first == {"Tides"}
    assert (after.chunking.target, after.documents) == (300, 2)
    assert after.chunks > before
    await superseded(library)
    rows = await library.rows("select count(*) as n, max(stop - start) as longest from chunks")
    assert (rows[0]["n"], rows[0]["longest"] <= 300) == (after.chunks, True)
    assert (await library.rows("select count(*) from vectors"))[0][0] == after.chunks
    assert await library.rows("select 1 from building") == []


async def test_a_space_whose_new_model_is_away_is_searched_with_the_old_one(library: World) -> None:
    space = await library.space()
    await ended(library, await library.add(space, "Tides", TIDES))
    other = Embedder(provider="ollama", model="nomic-embed-text", dimension=768)
    await library.ask(ChangeSpace(command_id=uuid4(), space_id=space.id, embedder=other))

    async def waits() -> bool:
        rows = await library.rows("select waits from jobs where kind = 'reembed' and state = 'queued'")
        return any(row["waits"] for row in rows)

    await eventually(waits, what="a job that waits for its model")
    found = await library.search("how often does the sea rise")
    assert (found.items[0].document.title, found.degraded) == ("Tides", None)
    late = await ended(library, await library.add(space, "Late", "What comes meanwhile is found as well."))
    assert await library.titles("what comes meanwhile", document_ids=[late.id]) == ["Late"]


async def test_a_space_changes_its_model_and_back(world: World) -> None:
    other = Embedder(provider="openai", model="letters", dimension=8)

    async def changed(space: Space, embedder: Embedder) -> None:
        await world.ask(ChangeSpace(command_id=uuid4(), space_id=space.id, embedder=embedder))

        async def done() -> bool:
            return not (await world.ask(GetSpace(space_id=space.id))).reindexing

        await eventually(done, what="the end of the reindexing", timeout=60)

    async with Embeddings() as server, world.start_rag(model=True, openai_base_url=server.url):
        space = await world.space()
        await ended(world, await world.add(space, "Harbour", LONG[:5000]))
        await ended(world, await world.add(space, "Tides", TIDES))
        await changed(space, other)
        await superseded(world)
        assert {row[0] for row in await world.rows("select vector_dims(h) from vectors")} == {8}
        assert (await world.search("fifty minutes")).degraded is None
        assert "letters" in {one["model"] for one in server.asked}
        await changed(space, Embedder())
        await superseded(world)
        assert {row[0] for row in await world.rows("select vector_dims(h) from vectors")} == {384}
        assert (await world.search("how often does the sea rise")).items[0].document.title == "Tides"
        (counted,) = await world.rows(
            "select (select count(*) from chunks), (select count(*) from vectors), chunks from space_stats"
        )
        assert len(set(counted.values())) == 1


async def test_a_busy_model_is_waited_for(world: World) -> None:
    async with Embeddings() as server, world.start_rag(model=True, openai_base_url=server.url):
        server.is_away = True
        space = await world.space(embedder={"provider": "openai", "model": "letters", "dimension": 8})
        document = await world.add(space, "Tides", TIDES)

        async def waits() -> bool:
            return bool(await world.rows("select 1 from jobs where kind = 'ingest' and waits > 0"))

        await eventually(waits, what="an ingestion that waits")
        assert (await world.ask(GetDocument(document_id=document.id))).state is DocumentState.EMBEDDING
        server.is_away = False
        assert (await ended(world, document)).searchable == 1
        assert len(await world.rows("select 1 from vectors")) == 1


async def test_a_model_that_stays_away_keeps_no_document_from_being_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.rag.handlers.ingesting.PATIENT", 1)
    monkeypatch.setattr("services.rag.handlers.reembedding.PAUSE", 0.1)
    async with Embeddings() as server, world.start_rag(model=True, openai_base_url=server.url):
        server.is_away = True
        space = await world.space(embedder={"provider": "openai", "model": "letters", "dimension": 8})
        await ended(world, await world.add(space, "Tides", TIDES))
        found = await world.search("high waters")
        assert ([item.document.title for item in found.items], found.receipt.path) == (["Tides"], "lexical")
        assert "503" in (found.degraded or "")
        server.is_away = False

        async def embedded() -> bool:
            return len(await world.rows("select 1 from vectors")) == 1

        await eventually(embedded, what="the vector of what had none")
        assert (await world.search("high waters")).degraded is None
