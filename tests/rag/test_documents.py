"""Spaces and documents: what is sent, sent again, changed and removed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tracemalloc
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from chassis.blobs import Blobs
from chassis.context import Context
from chassis.depot import Strays
from chassis.scratch import Scratch
from chassis.testing.eventually import eventually
from chassis.testing.refusing import refused
from contracts.artifacts import ArtifactDetail, Visibility
from contracts.errors import Code
from contracts.knowledge import (
    AddDocument,
    ChangeSpace,
    Chunking,
    CreateSpace,
    Document,
    DocumentState,
    Embedder,
    GetDocument,
    GetDocumentFile,
    GetSpace,
    GetStats,
    ListDocuments,
    ListSpaces,
    ListVersions,
    ReindexDocument,
    RemoveSpace,
    Space,
    document_key,
)
from contracts.plan import ArtifactKind
from contracts.refs import BlobRef
from services.rag.depot import Depot
from services.rag.handlers.deleting import Deleting
from services.rag.handlers.sources import Sources
from tests.rag.conftest import World, reader


async def jobs(world: World, kind: str) -> list[dict[str, object]]:
    return [dict(row["payload"]) for row in await world.rows("select payload from jobs where kind = $1", kind)]


async def get(world: World, document: Document) -> Document:
    return await world.ask(GetDocument(document_id=document.id))


async def test_a_space_is_as_it_was_made_and_without_grants_open_to_its_scope(live: World) -> None:
    made = await live.space("Handbook", language="fr", scope="project", scope_id="harbour")
    assert (made.name, made.language, made.scope, made.scope_id) == ("Handbook", "fr", "project", "harbour")
    assert made.grants == [reader("*")]
    assert (made.embedder, made.chunking) == (Embedder(), Chunking())
    assert (made.documents, made.chunks, made.reindexing) == (0, 0, False)
    assert await live.ask(GetSpace(space_id=made.id)) == made
    closed = await live.space("Closed", grants=[])
    assert closed.grants == []
    page = await live.ask(ListSpaces(name_contains="CLO"))
    assert (page.items, page.total) == ([closed], 1)


async def test_a_name_is_given_once_whatever_its_case_and_whoever_asks_at_the_same_time(live: World) -> None:
    await live.space("Handbook")
    async with refused(Code.TITLE_TAKEN):
        await live.space("HANDBOOK")
    other = await live.space("Other")
    async with refused(Code.TITLE_TAKEN):
        await live.ask(ChangeSpace(command_id=uuid4(), space_id=other.id, name="handbook"))
    assert (await live.ask(ChangeSpace(command_id=uuid4(), space_id=other.id, name="OTHER"))).name == "OTHER"
    told = await asyncio.gather(*(live.space("New") for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(each, Space) for each in told) == 1
    assert (await live.space("Handbook", company="acme")).company_id == "acme"


@pytest.mark.parametrize("fields", [{"scope": "project"}, {"scope": "agent", "scope_id": ""}, {"scope_id": "harbour"}])
async def test_a_scope_and_its_id_belong_together(live: World, fields: dict[str, str]) -> None:
    async with refused(Code.INVALID) as caught:
        await live.space(**fields)
    assert caught.value.failure.details["errors"][0]["loc"] == ["scope_id"]


async def test_an_order_that_is_repeated_is_answered_with_the_same_space(live: World) -> None:
    order = CreateSpace(command_id=uuid4(), name="Handbook")
    assert (await live.ask(order)).id == (await live.ask(order)).id


async def test_another_model_is_made_by_a_job_and_search_goes_on_with_the_old_one_until_then(live: World) -> None:
    space = await live.space()
    await live.know(space, "Tides", "High water at noon.")
    wanted = Embedder(provider="ollama", model="nomic-embed-text", dimension=768)
    changed = await live.ask(ChangeSpace(command_id=uuid4(), space_id=space.id, embedder=wanted))
    assert (changed.reindexing, changed.embedder) == (True, wanted)
    assert await jobs(live, "reembed") == [{"space_id": str(space.id)}]
    found = await live.search("high water")
    assert (found.items[0].document.title, found.receipt.path) == ("Tides", "exact")
    same = await live.ask(ChangeSpace(command_id=uuid4(), space_id=space.id, name="Renamed", embedder=wanted))
    assert (same.name, len(await jobs(live, "reembed"))) == ("Renamed", 1)


async def test_text_is_kept_as_it_was_sent_and_waits_for_its_ingestion(live: World) -> None:
    space = await live.space(language="fr")
    text = "Les marées sont hautes. 🌊"
    sent = await live.add(space, "Marées", text, tags=["b", "a", "a"], dated=date(2026, 1, 2), name="m.txt", by="ann")
    assert (sent.state, sent.version, sent.searchable) == (DocumentState.RECEIVED, 1, None)
    assert (sent.title, sent.tags, sent.dated, sent.language) == ("Marées", ["a", "b"], date(2026, 1, 2), "fr")
    assert (sent.size, sent.sha256) == (len(text.encode()), hashlib.sha256(text.encode()).hexdigest())
    assert (sent.progress, sent.chunks) == (0, 0)
    assert await jobs(live, "ingest") == [{"document_id": str(sent.id), "version": 1}]
    file = await live.ask(GetDocumentFile(document_id=sent.id))
    assert file.name == "m.txt"
    assert (await live.executor.blobs.get(file.ref)).decode() == text
    assert await get(live, sent) == sent


async def test_a_stored_file_and_an_artifact_become_documents(live: World) -> None:
    space, data = await live.space(), b"%PDF-1.7 whatever"
    digest = hashlib.sha256(data).hexdigest()
    await live.executor.blobs.put(data, company="default/documents", content_type="application/pdf")
    ref = BlobRef(key=document_key("default", digest), sha256=digest, size=len(data), content_type="application/pdf")
    sent = await live.add(space, "Scan", ref=ref)
    assert (sent.sha256, sent.content_type) == (digest, "application/pdf")
    id, there = uuid4(), await live.executor.blobs.put(data, company="default/artifacts", content_type="text/html")
    live.others.artifacts[id] = an_artifact(id, there)
    copied = await live.add(space, "Report", artifact_id=id)
    assert (copied.sha256, copied.content_type) == (digest, "text/html")
    file = await live.ask(GetDocumentFile(document_id=copied.id))
    assert (file.name, await live.executor.blobs.get(file.ref)) == ("report.html", data)


async def test_a_large_artifact_is_copied_once_and_in_little_memory(
    live: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert live.rag is not None
    space, size, id, scratch = await live.space(), 24 * 2**20, uuid4(), Scratch("rag-test", tmp_path)
    there = await live.executor.blobs.put(os.urandom(size), company="default/artifacts", content_type="text/html")
    live.others.artifacts[id] = an_artifact(id, there)
    sources = Sources(live.rag.bus, Depot(live.rag.blobs, live.rag.pool), scratch)
    request = AddDocument(command_id=uuid4(), space_id=space.id, title="Report", artifact_id=id)
    tracemalloc.start()
    try:
        sent = await sources.of(request, Context())
        assert tracemalloc.get_traced_memory()[1] < size * 3 / 4
    finally:
        tracemalloc.stop()
    kept = there.model_copy(update={"key": document_key("default", there.sha256)})
    assert await live.executor.blobs.holds(kept)
    monkeypatch.delattr(Blobs, "get_file")
    assert (await sources.of(request, Context())).sha256 == sent.sha256 == there.sha256
    await scratch.close()


def an_artifact(id: object, ref: BlobRef | None) -> ArtifactDetail:
    empty = dict.fromkeys(ArtifactDetail.model_fields)
    known = {"id": id, "company_id": "default", "project_id": "default", "kind": ArtifactKind.DOCUMENT, "version": 1}
    known |= {"name": "report.html", "visibility": Visibility.PRIVATE, "created_at": datetime.now(UTC), "ref": ref}
    return ArtifactDetail.model_validate(empty | known)


async def test_exactly_one_source_is_asked_for_and_files_lie_where_documents_lie(live: World) -> None:
    space = await live.space()
    for sources in ({}, {"text": "x", "artifact_id": uuid4()}):
        async with refused(Code.INVALID) as caught:
            await live.ask(AddDocument(command_id=uuid4(), space_id=space.id, title="T", **sources))
        assert "exactly one" in str(caught.value)
    elsewhere = BlobRef(key="acme/documents/" + "0" * 64, sha256="0" * 64, size=1)
    async with refused(Code.INVALID):
        await live.add(space, "T", ref=elsewhere)
    async with refused(Code.NOT_FOUND):
        await live.add(space, "T", artifact_id=uuid4())
    link = uuid4()
    live.others.artifacts[link] = an_artifact(link, None)
    async with refused(Code.INVALID):
        await live.add(space, "T", artifact_id=link)
    async with refused(Code.NOT_FOUND):
        await live.ask(AddDocument(command_id=uuid4(), space_id=uuid4(), title="T", text="x"))


async def test_twenty_who_send_the_same_at_once_make_one_document(live: World) -> None:
    space = await live.space()
    sent = await asyncio.gather(*(live.add(space, "Tides", "the same text") for _ in range(20)))
    assert len({document.id for document in sent}) == 1
    assert {document.version for document in sent} == {1}
    assert len(await jobs(live, "ingest")) == 1


async def test_the_same_again_changes_nothing_and_new_content_makes_a_version(live: World) -> None:
    space = await live.space()
    first = await live.add(space, "Tides", "one")
    assert (await live.add(space, "Tides", "one")).version == 1
    second = await live.add(space, "Tides", "two")
    assert (second.id, second.version) == (first.id, 2)
    named = await live.add(space, "Tides", "one", external_id="tides")
    assert named.id != first.id
    renamed = await live.add(space, "Tides and moons", "one", external_id="tides")
    assert (renamed.id, renamed.version, renamed.title) == (named.id, 2, "Tides and moons")
    versions = await live.ask(ListVersions(document_id=named.id))
    assert [(v.version, v.state) for v in versions.items] == [(2, "received"), (1, "received")]
    assert len(await jobs(live, "ingest")) == 4


async def test_other_tags_are_no_other_version_and_count_at_once(live: World) -> None:
    space = await live.space()
    await live.know(space, "Tides", "High water.", tags=["sea"])
    again = await live.add(space, "Tides", "High water.", tags=["moon"], dated=date(2026, 5, 1))
    assert (again.version, again.state, again.tags) == (1, "ready", ["moon"])
    assert await live.titles("water", tags=["moon"]) == ["Tides"]
    assert await live.titles("water", tags=["sea"]) == []


async def test_a_reindexed_document_is_a_version_of_the_same_bytes(live: World) -> None:
    space = await live.space()
    before = await live.know(space, "Tides", "High water.")
    again = await live.ask(ReindexDocument(command_id=uuid4(), document_id=before.id))
    assert (again.version, again.searchable, again.sha256) == (2, 1, before.sha256)
    assert await live.titles("water") == ["Tides"]


async def test_documents_are_listed_by_space_state_title_and_tag(live: World) -> None:
    space, other = await live.space(), await live.space("Other")
    tides = await live.know(space, "Tides", "High water.", tags=["sea"])
    await live.add(space, "Knots", "A bowline.", tags=["rope"])
    await live.add(other, "More tides", "Low water.")

    async def titles(**filters: object) -> set[str]:
        page = await live.ask(ListDocuments.model_validate(filters))
        assert page.total == len(page.items)
        return {document.title for document in page.items}

    assert await titles(space_id=space.id) == {"Tides", "Knots"}
    assert await titles(state="ready") == {"Tides"}
    assert await titles(title_contains="TIDE") == {"Tides", "More tides"}
    assert await titles(tag="rope") == {"Knots"}
    assert await titles(company="acme") == set()
    async with refused(Code.INVALID):
        await titles(order_by="space_id; drop table spaces")
    ready = await get(live, tides)
    assert (ready.progress, ready.chunks, ready.searchable) == (1, 1, 1)
    stats = await live.ask(GetStats())
    assert (stats.documents["ready"], stats.documents["received"], stats.chunks) == (1, 2, 1)
    assert {each.name: each.chunks for each in stats.spaces} == {"Handbook": 1, "Other": 0}


async def test_what_is_removed_is_found_no_more_and_its_bytes_go_unless_another_names_them(live: World) -> None:
    space = await live.space()
    gone, stays = await live.know(space, "Tides", "High water."), await live.add(space, "Copy", "High water.")
    alone = await live.know(space, "Moon", "The moon is alone.")
    for document in (gone, alone):
        await live.remove(document)
    assert await live.titles("water moon") == []
    async with refused(Code.NOT_FOUND):
        await get(live, gone)
    key = document_key("default", alone.sha256)

    async def is_gone() -> bool:
        return key not in await live.executor.blobs.older_than(-60.0, "default/documents/", 100)

    await eventually(is_gone, what="the bytes of what was removed are deleted")
    file = await live.ask(GetDocumentFile(document_id=stays.id))
    assert await live.executor.blobs.get(file.ref) == b"High water."
    again = await live.know(space, "Moon", "The moon is alone.")
    assert again.version == 1
    assert await live.titles("moon") == ["Moon"]


async def test_bytes_that_nobody_came_to_name_go_after_a_while_and_those_of_documents_stay(live: World) -> None:
    assert live.rag is not None
    space, blobs = await live.space(), live.rag.blobs
    named = await live.add(space, "Tides", "High water.")
    depot = Depot(blobs, live.rag.pool)
    unnamed = await depot.keep("default", b"kept, and never named", "text/plain")
    stray = await blobs.put(b"put, and never told of", company="default/documents", content_type="text/plain")
    await live.rag.pool.execute("update objects set wanted_at = wanted_at - interval '2 days'")
    assert await Deleting(live.rag.uow, live.rag.jobs, depot, 0.0).begin(10) == 1
    assert await Strays(depot, old=-60.0).step(live.rag.pool, 10) == 1

    async def only_the_document() -> bool:
        return await blobs.older_than(-60.0, "default/documents/", 10) == [document_key("default", named.sha256)]

    await eventually(only_the_document, what=f"{unnamed} and {stray.sha256} are gone")


async def test_a_space_is_removed_with_its_documents_only_when_that_is_said(live: World) -> None:
    space, other = await live.space(), await live.space("Other")
    await live.know(space, "Tides", "High water.")
    await live.know(other, "Moon", "High moon.")
    async with refused(Code.ILLEGAL_STATE) as caught:
        await live.ask(RemoveSpace(command_id=uuid4(), space_id=space.id))
    assert "force" in str(caught.value)
    await live.ask(RemoveSpace(command_id=uuid4(), space_id=space.id, force=True))
    assert await live.titles("high water") == ["Moon"]
    async with refused(Code.NOT_FOUND):
        await live.ask(GetSpace(space_id=space.id))
    assert [row["n"] for row in await live.rows("select count(*) as n from grants")] == [1]
