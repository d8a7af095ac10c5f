"""From what was sent to what is searched, with the real model: whole or not at all, whoever dies on the way."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

import pytest

from chassis.testing.eventually import eventually
from contracts.knowledge import (
    AddDocument,
    DocumentState,
    ListSpaces,
    ReindexDocument,
)
from services.rag.adapters import parser
from tests.killable import killable
from tests.rag.conftest import World
from tests.rag.files import docx, pdf
from tests.rag.library import ENDED, LONG, TIDES, ended, put


async def test_a_text_is_found_by_what_it_means(library: World) -> None:
    space = await library.space()
    tides = await ended(library, await library.add(space, "Tides", TIDES))
    await ended(library, await library.add(space, "Taxes", "Income is declared in March."))
    assert (tides.chunks, tides.searchable, tides.progress) == (1, 1, 1.0)
    found = await library.search("how often does the sea rise")
    assert found.items[0].document.title == "Tides"
    assert found.items[0].text == TIDES
    assert found.degraded is None


async def test_files_are_read_and_pages_and_headings_are_kept(library: World) -> None:
    space = await library.space()
    lines = "\n".join(["Ships wait outside until the harbour opens at six."] * 18)
    paper = await put(library, pdf([f"Opening\n{lines}", f"Fees\n{lines}"]), "application/pdf")
    word = await put(library, docx(["Berths", "Berth nine belongs to the pilot."], headings=["Berths"]))
    await ended(library, await library.add(space, "Harbour", ref=paper, name="harbour.pdf"))
    await ended(library, await library.add(space, "Plan", ref=word, name="plan.docx"))
    assert [row["page"] for row in await library.rows("select distinct page from chunks order by page")] == [1, 2, None]
    assert [row["header"] for row in await library.rows("select header from chunks where page is null")] == ["Berths"]
    found = (await library.search("whose is berth nine")).items[0]
    assert (found.document.title, found.text) == ("Plan", "# Berths\n\nBerth nine belongs to the pilot.")
    assert (await library.search("when does the harbour open")).items[0].page == 1
    rows = await library.rows("select sha256, text_sha256 from versions where pages = 2")
    assert [row["text_sha256"] is not None for row in rows] == [True]


async def test_what_cannot_be_read_says_why_and_the_version_before_goes_on(library: World) -> None:
    space = await library.space()
    scan = await put(library, pdf(["", ""]), "application/pdf")
    first = await ended(library, await library.add(space, "Tides", TIDES))
    second = await library.add(space, "Tides", ref=scan, name="tides.pdf")
    failed = await ended(library, second, DocumentState.NEEDS_OCR)
    assert (failed.version, failed.searchable) == (2, 1)
    assert "text recognition" in (failed.error or "")
    assert await library.titles("fifty minutes") == ["Tides"]
    broken = await put(library, pdf([TIDES])[:150], "application/pdf")
    failed = await ended(library, await library.add(space, "Broken", ref=broken), DocumentState.FAILED)
    assert "send it again" in (failed.error or "")
    assert first.error is None


async def test_a_new_version_takes_the_place_of_the_old_one(library: World) -> None:
    space = await library.space()
    await ended(library, await library.add(space, "Rules", "Lunch is at noon."))
    await ended(library, await library.add(space, "Rules", "Lunch is at one o'clock. Dinner is at eight."))
    found = await library.search("when is lunch")
    assert [(item.document.version, item.text) for item in found.items] == [
        (2, "Lunch is at one o'clock. Dinner is at eight.")
    ]
    again = await library.ask(ReindexDocument(command_id=uuid4(), document_id=found.items[0].document.id))
    assert (await ended(library, again)).searchable == 3
    assert (await library.rows("select count(*) from chunks"))[0][0] == 1


async def test_twenty_uploads_of_the_same_file_make_one_document(library: World) -> None:
    space = await library.space()
    ref = await put(library, TIDES.encode(), "text/plain")
    asks = [
        library.ask(AddDocument(command_id=uuid4(), space_id=space.id, title="Tides", ref=ref, name="tides.txt"))
        for _ in range(20)
    ]
    added = await asyncio.gather(*asks)
    assert {(one.id, one.version) for one in added} == {(added[0].id, 1)}
    await ended(library, added[0])
    assert (await library.rows("select count(*) from chunks"))[0][0] == 1


async def test_a_reader_that_dies_is_tried_again(
    library: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    there, died = parser.COMMAND, tmp_path / "died"
    script = tmp_path / "reader.py"
    script.write_text(f"import os; open({str(died)!r}, 'w').close(); os.kill(os.getpid(), 9)")
    monkeypatch.setattr(parser, "COMMAND", (sys.executable, "-I", str(script)))
    space = await library.space()
    document = await library.add(space, "Plan", ref=await put(library, docx(["Berth nine."])), name="plan.docx")
    await eventually(died.exists, what="the death of the reader")
    monkeypatch.setattr(parser, "COMMAND", there)
    assert (await ended(library, document)).searchable == 1


async def test_how_far_a_long_document_is_can_be_followed(library: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.rag.handlers.making.BETWEEN_NEWS", 0.0)
    space = await library.space()
    document = await ended(library, await library.add(space, "Harbour", LONG))
    rows = await library.rows("select subject, body from outbox where story = $1 order by sequence", str(document.id))
    told = [(row["subject"].split(".")[4], json.loads(row["body"])) for row in rows]
    assert [verb for verb, _ in told][:2] == ["received", "progress"]
    assert told[-1][0] == "ready"
    done = [body["done"] for verb, body in told if verb == "progress" and body["state"] == "embedding"]
    assert done == sorted(done)
    assert {body["total"] for verb, body in told[2:-1]} == {document.chunks}


async def test_what_is_removed_while_it_is_made_leaves_nothing(library: World) -> None:
    space = await library.space()
    document = await library.add(space, "Harbour", LONG)

    async def begun() -> bool:
        return bool(await library.rows("select 1 from building limit 1"))

    await eventually(begun, what="the first chunks")
    await library.remove(document)

    async def over() -> bool:
        return not await library.rows("select 1 from jobs where kind = 'ingest' and state in ('queued', 'running')")

    await eventually(over, what="the end of its job")
    for table in ("versions", "building", "chunks", "vectors", "lexemes"):
        assert await library.rows(f"select 1 from {table}") == [], table
    assert await library.titles("berth") == []


async def test_a_version_that_was_overtaken_says_so(library: World) -> None:
    space = await library.space()
    slow = await library.add(space, "Harbour", LONG)
    await ended(library, await library.add(space, "Harbour", TIDES))

    async def states() -> list[str]:
        rows = await library.rows("select state from versions where document_id = $1 order by version", slow.id)
        found = [row["state"] for row in rows]
        return found if found[0] in ENDED else []

    assert await eventually(states, what="the end of the first version", timeout=60) in (
        ["failed", "ready"],
        ["ready", "ready"],  # it was quicker after all
    )
    assert {item.document.version for item in (await library.search("high waters")).items} == {2}


async def test_what_is_too_large_is_not_even_fetched(library: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.rag.handlers.making.LARGEST", 50)
    space = await library.space()
    ref = await put(library, TIDES.encode())
    failed = await ended(library, await library.add(space, "Film", ref=ref), DocumentState.FAILED)
    assert "may have 50 " in (failed.error or "")


def a_process(world: World) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return killable("rag", world.environment | {"ENV": "test", "RAG_LEASE": "1", "RAG_THREADS": "1"})


async def test_what_a_killed_rag_had_begun_is_finished_by_the_next_and_never_seen_half(world: World) -> None:
    async def done() -> int:
        return int((await world.rows("select count(h) from building where version = 2"))[0][0])

    async with a_process(world) as child:
        await eventually(world.space, what="rag")
        (space,) = (await world.ask(ListSpaces())).items
        await ended(world, await world.add(space, "Harbour", TIDES))
        document = await world.add(space, "Harbour", LONG)
        await eventually(done, what="chunks that are embedded", timeout=60)
        child.send_signal(signal.SIGKILL)
        await child.wait()
    before = await done()
    total = (await world.rows("select planned from versions where version = 2"))[0][0]
    assert 0 < before < total
    assert [row["version"] for row in await world.rows("select version from chunks")] == [1]
    async with world.start_rag(model=True):
        seen = []

        async def is_searched() -> bool:
            seen.append(await done())
            found = {item.document.version for item in (await world.search("berth in the harbour")).items}
            seen.extend([-1] if found not in ({1}, {2}) else [])
            return found == {2}

        await eventually(is_searched, what="the second version", timeout=90)
        assert (
            min(seen[:-1] or [before]) >= before
        )  # what was embedded stayed so, and no two versions were found together
        found = await ended(world, document)
        assert (found.chunks, found.searchable) == (total, 2)
        rows = await world.rows(
            "select c.start, c.stop from chunks c join vectors v on v.chunk_id = c.id order by c.ord"
        )
        assert len(rows) == total
        assert " ".join(LONG[row["start"] : row["stop"]] for row in rows).split() == LONG.split()


async def test_what_no_reader_survives_ends_with_a_word(
    library: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    script = tmp_path / "reader.py"
    script.write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(parser, "COMMAND", (sys.executable, "-I", str(script)))
    monkeypatch.setattr("services.rag.handlers.ingesting.SURPRISES", 2)
    space = await library.space()
    document = await library.add(space, "Plan", ref=await put(library, docx(["Berth nine."])), name="plan.docx")
    assert "save it anew" in ((await ended(library, document, DocumentState.FAILED)).error or "")
