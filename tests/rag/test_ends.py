"""Work that cannot go on, goes on in parts, or is done twice at once: it ends with a word, and nothing is left half."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from chassis.context import Context
from chassis.job_table import Job, NotYet
from chassis.postgres import connect
from chassis.scratch import Scratch
from chassis.testing.eventually import eventually
from contracts.errors import RetryLater
from contracts.knowledge import (
    ChangeSpace,
    Chunking,
    Document,
    DocumentState,
    Embedder,
    GetDocument,
    GetSpace,
    RemoveSpace,
    Space,
)
from services.rag.adapters import cutter
from services.rag.adapters.cutter import Cutter
from services.rag.adapters.parser import Parser
from services.rag.depot import Depot
from services.rag.domain.parsed import Parsed
from services.rag.domain.passages import Manner, Passage
from services.rag.domain.questions import NoVectors
from services.rag.domain.spending import Buyer
from services.rag.handlers.ingesting import MOST_ATTEMPTS, Ingesting, News
from services.rag.handlers.making import Making
from services.rag.handlers.turns import Turns
from services.rag.store.documents import DocumentStore
from services.rag.store.index import HOLD, IndexStore
from tests.rag.conftest import World, vector_of
from tests.rag.files import docx
from tests.rag.library import LONG, TIDES, ended, put

LOST = "0" * 64


class Letters:
    """Instead of a model of documents."""

    def awake(self, _: Embedder) -> None:
        pass

    async def of_texts(self, _: Embedder, texts: list[str], __: Buyer) -> list[list[float]]:
        return [vector_of(text) for text in texts]


@pytest.fixture
async def ingesting(live: World) -> AsyncIterator[Ingesting]:
    """As the service composes it, to be called by the test."""
    assert live.rag is not None
    rag, scratch = live.rag, Scratch("rag-test")
    news = News(rag.uow)
    depot, letters = Depot(rag.blobs, rag.pool), Letters()
    made = Making(rag.pool, depot, scratch, Parser(), Cutter(), letters, news.tell)  # type: ignore[arg-type]
    yield Ingesting(rag.uow, Turns(rag.uow), rag.pool, rag.jobs, made, news)
    await scratch.close()


async def claimed(world: World, document: Document, attempt: int = 1) -> Job:
    """The job of its newest version, as this worker has it."""
    assert world.rag is not None
    table = world.rag.jobs._table
    row = await world.rag.pool.fetchrow(
        """
        update jobs set state = 'running', attempt = $2, worker = $3, lease_until = clock_timestamp() + interval '1 hour'
        where kind = 'ingest' and ref = $1 returning id, payload
        """,
        *(f"{document.id} {document.version}", attempt, table._worker),
    )
    assert row is not None
    return Job(row["id"], "ingest", "", document.company_id, row["payload"], attempt, Context())


async def told(world: World, document: Document) -> list[tuple[str, dict[str, object]]]:
    rows = await world.rows("select subject, body from outbox where story = $1 order by sequence", str(document.id))
    return [(row["subject"].split(".")[4], json.loads(row["body"])) for row in rows]


async def test_a_text_that_the_store_has_lost_is_read_again(live: World, ingesting: Ingesting) -> None:
    document = await live.add(await live.space(f"S {uuid4()}"), "Plan", ref=await put(live, docx(["Berth nine."])))
    await live.rows("update versions set text_sha256 = $2, text_size = 9 where document_id = $1", document.id, LOST)
    await ingesting.work(await claimed(live, document))
    assert (await live.ask(GetDocument(document_id=document.id))).state is DocumentState.READY


async def test_a_document_over_which_workers_die_ends_with_a_word(live: World, ingesting: Ingesting) -> None:
    document = await live.add(await live.space(f"S {uuid4()}"), "Plan", "Berth nine.")
    await ingesting.work(await claimed(live, document, MOST_ATTEMPTS + 1))
    found = await live.ask(GetDocument(document_id=document.id))
    assert (found.state, "split it" in (found.error or "")) == (DocumentState.FAILED, True)
    assert [verb for verb, _ in await told(live, document)][-1] == "failed"


async def test_a_version_that_was_overtaken_is_made_no_further_and_told_of_as_well(
    live: World, ingesting: Ingesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, texts = await live.space(f"S {uuid4()}"), list[str]()
    slow = await live.add(space, "Harbour", "The old text.")
    job = await claimed(live, slow)
    await live.know(space, "Harbour", "The new text.")

    async def bought(_: Letters, __: Embedder, given: list[str], ___: Buyer) -> list[list[float]]:
        texts.extend(given)
        return [vector_of(text) for text in given]

    monkeypatch.setattr(Letters, "of_texts", bought)
    await ingesting.work(job)
    assert texts == []
    ends = [(verb, body["version"]) for verb, body in await told(live, slow) if verb in ("ready", "failed")]
    assert ends == [("ready", 2), ("failed", 1)]


async def test_what_is_removed_while_it_is_made_is_no_failure(
    live: World, ingesting: Ingesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await live.add(await live.space(f"S {uuid4()}"), "Harbour", LONG)
    build = IndexStore.build

    async def removed_before(self: IndexStore, *rows: object) -> None:
        monkeypatch.setattr(IndexStore, "build", build)
        await live.remove(document)
        await build(self, *rows)  # type: ignore[arg-type]

    monkeypatch.setattr(IndexStore, "build", removed_before)
    job = await claimed(live, document)
    await ingesting.work(job)
    (row,) = await live.rows("select state, result from jobs where id = $1", job.id)
    assert (row["state"], row["result"]) == ("done", {"lapsed": True})


async def test_a_version_that_another_has_begun_anew_is_not_searched_half(
    live: World, ingesting: Ingesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was frozen wakes up and takes back what this one has cut."""
    document = await live.add(await live.space(f"S {uuid4()}"), "Harbour", LONG)
    embed = Making.embed

    async def taken_back(self: Making, *what: object) -> None:
        await embed(self, *what)  # type: ignore[arg-type]
        monkeypatch.setattr(Making, "embed", embed)
        await live.rows("update versions set recipe = '[]', planned = null where document_id = $1", document.id)
        await live.rows("delete from building where document_id = $1", document.id)

    monkeypatch.setattr(Making, "embed", taken_back)
    job = await claimed(live, document)
    with pytest.raises(NotYet):
        await ingesting.work(job)
    assert (await live.ask(GetDocument(document_id=document.id))).searchable is None
    await ingesting.work(job)
    found = await live.ask(GetDocument(document_id=document.id))
    assert found.chunks > 20
    assert found.searchable == 1


async def test_vectors_of_one_model_never_come_to_chunks_that_were_cut_for_another(
    live: World, ingesting: Ingesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await live.add(await live.space(f"S {uuid4()}"), "Harbour", LONG)

    async def late(_: Letters, __: Embedder, texts: list[str], ___: Buyer) -> list[list[float]]:
        await live.rows("update versions set recipe = '[]' where document_id = $1", document.id)
        return [vector_of(text) for text in texts]

    monkeypatch.setattr(Letters, "of_texts", late)
    with pytest.raises(RetryLater):
        await ingesting.work(await claimed(live, document))
    (row,) = await live.rows("select count(*) as n, count(h) as made from building where document_id = $1", document.id)
    assert (row["n"] > 0, row["made"]) == (True, 0)


async def test_a_failure_and_a_removal_at_once_do_not_wait_for_each_other(live: World) -> None:
    document = await live.add(await live.space(f"S {uuid4()}"), "Harbour", TIDES)
    removing, failing = await connect(live.url, "rag"), await connect(live.url, "rag")
    try:
        async with removing.transaction():
            await removing.execute("select from documents where id = $1 for update", document.id)
            async with asyncio.TaskGroup() as tasks:
                failed = tasks.create_task(
                    DocumentStore(failing).fail(document.id, 1, DocumentState.FAILED, "it is damaged")
                )
                await waiting_for_a_lock(live, failing)
                version = "select from versions where document_id = $1 for update nowait"
                await removing.execute(version, document.id)
                await removing.execute("delete from documents where id = $1", document.id)
                await removing.execute("commit")
                await removing.execute("begin")
        assert failed.result() is False
    finally:
        await asyncio.gather(removing.close(), failing.close())


async def test_new_tags_and_the_end_of_an_ingestion_without_vectors_do_not_wait_for_each_other(
    live: World, ingesting: Ingesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*_: object) -> list[list[float]]:
        raise NoVectors("nobody makes any")

    monkeypatch.setattr(Letters, "of_texts", none)
    document = await live.add(await live.space(f"S {uuid4()}"), "Harbour", TIDES)
    job, tagging = await claimed(live, document), await connect(live.url, "rag")
    try:
        async with tagging.transaction():
            await tagging.execute("select from documents where id = $1 for update", document.id)
            working = asyncio.create_task(ingesting.work(job))

            held_up = "select 1 from pg_stat_activity where $1 = any(pg_blocking_pids(pid))"
            await eventually(
                lambda: live.rows(held_up, tagging.get_server_pid()), what="an end that waits for the document"
            )
            await tagging.execute("select from versions where document_id = $1 for update nowait", document.id)
            await DocumentStore(tagging).relabel(document.id, ["sea"], None)
        await working
    finally:
        await tagging.close()
    found = await live.ask(GetDocument(document_id=document.id))
    assert (found.state, found.tags, found.waits_for) == (DocumentState.READY, ["sea"], "nobody makes any")


async def waiting_for_a_lock(world: World, connection: asyncpg.Connection[object]) -> None:
    pid = connection.get_server_pid()

    async def waits() -> bool:
        return bool(await world.rows("select 1 from pg_locks where pid = $1 and not granted", pid))

    await eventually(waits, what="a statement that waits for a lock")


async def test_a_space_that_is_removed_waits_for_who_changes_what_is_searched_before_it_locks_anything(
    live: World,
) -> None:
    space = await live.space(f"S {uuid4()}")
    changing = await connect(live.url, "rag")
    try:
        async with changing.transaction():
            await changing.execute(HOLD, space.id)
            removed = asyncio.create_task(live.ask(RemoveSpace(command_id=uuid4(), space_id=space.id)))

            async def waits() -> bool:
                return bool(await live.rows("select 1 from pg_locks where locktype = 'advisory' and not granted"))

            await eventually(waits, what="a removal that waits")
            await changing.execute("select from spaces where id = $1 for update nowait", space.id)
        assert (await removed).removed.id == space.id
    finally:
        await changing.close()


async def test_a_space_that_cannot_be_made_anew_says_why_and_goes_on_when_that_is_mended(
    library: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.rag.handlers.reembedding.PAUSE", 0.1)
    space = await library.space(f"S {uuid4()}")
    document = await ended(library, await library.add(space, "Plan", ref=await put(library, docx(["Berth nine."]))))
    await ended(library, await library.add(space, "Tides", TIDES))
    ref = "select sha256, text_sha256 from versions where document_id = $1"
    (kept,) = await library.rows(ref, document.id)
    await library.rows("update versions set sha256 = $2, text_sha256 = $2 where document_id = $1", *(document.id, LOST))
    await library.ask(ChangeSpace(command_id=uuid4(), space_id=space.id, chunking=Chunking(target=300)))

    async def seen() -> Space:
        return await library.ask(GetSpace(space_id=space.id))

    async def says_why() -> bool:
        return "Plan" in ((await seen()).waits_for or "")

    await eventually(says_why, what="the reason")
    assert (await library.titles("berth nine", space_ids=[space.id]))[0] == "Plan"
    undo = "update versions set sha256 = $2, text_sha256 = $3 where document_id = $1"
    await library.rows(undo, document.id, kept["sha256"], kept["text_sha256"])

    async def done() -> bool:
        return not (await seen()).reindexing

    await eventually(done, what="the end of the reindexing")
    assert (await seen()).waits_for is None


async def test_what_takes_longer_than_other_statements_may_is_put_in_place_all_the_same(live: World) -> None:
    document = await live.add(await live.space(f"S {uuid4()}"), "Tides", TIDES)
    await live.build(document, [TIDES])
    blocking = await connect(live.url, "rag")
    impatient = await asyncpg.connect(live.url, command_timeout=1.5, server_settings={"search_path": "rag,public"})
    try:
        async with impatient.transaction():
            async with blocking.transaction():
                await blocking.execute("lock table vectors in exclusive mode")
                swapping = asyncio.create_task(IndexStore(impatient).swap(document.id, 1))
                await waiting_for_a_lock(live, impatient)
                done, _ = await asyncio.wait({swapping}, timeout=2.0)
                assert not done
            swapped = await swapping
            assert swapped is not None
            assert swapped.chunks == 1
    finally:
        await asyncio.gather(blocking.close(), impatient.close())


async def test_documents_that_take_long_to_cut_leave_room_for_searches(
    library: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, go_on, cut = await library.space(f"S {uuid4()}"), threading.Event(), cutter._cut
    await ended(library, await library.add(space, "Tides", TIDES))

    def slow(text: Parsed | Path, manner: Manner) -> list[Passage]:
        assert go_on.wait(300)
        return cut(text, manner)

    monkeypatch.setattr(cutter, "_cut", slow)
    try:
        documents = [await library.add(space, f"Slow {n}", f"Text number {n}.") for n in range(12)]
        at_work = "select count(*) from versions v join documents d on d.id = v.document_id where d.space_id = $1"

        async def all_begun() -> bool:
            (row,) = await library.rows(f"{at_work} and v.state = 'parsing' and v.recipe is not null", space.id)
            return int(row[0]) == len(documents)

        await eventually(all_begun, what="documents that are being cut")
        async with asyncio.timeout(60):
            assert await library.titles("high waters", space_ids=[space.id]) == ["Tides"]
    finally:
        go_on.set()
    for document in documents:
        await ended(library, document)
