"""Who changes what is searched in a space does it alone: those who wait for that keep nobody else waiting."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from chassis.postgres import connect
from chassis.testing.eventually import eventually
from contracts.knowledge import ChangeSpace, Chunking, DocumentState, GetSpace, ListDocuments
from services.rag.store.index import HOLD
from tests.rag.conftest import World
from tests.rag.library import TIDES, ended

MANY = 12  # more than rag has connections


async def test_a_space_that_is_held_for_long_keeps_nobody_waiting_who_wants_something_else(library: World) -> None:
    held, other = await library.space("Held"), await library.space("Other")
    goes = [await ended(library, await library.add(held, f"Goes {n}", f"{TIDES} {n}")) for n in range(MANY)]
    holding = await connect(library.url, "rag")
    try:
        async with holding.transaction():
            await holding.execute(HOLD, held.id)
            comes = [await library.add(held, f"Comes {n}", f"{TIDES} {n}") for n in range(MANY)]
            await library.ask(ChangeSpace(command_id=uuid4(), space_id=held.id, chunking=Chunking(target=300)))
            removals = [asyncio.create_task(library.remove(document)) for document in goes]

            async def all_are_made() -> bool:
                found = await library.rows(
                    "select 1 from versions v where document_id = any($1) and planned = (select count(h) from building b"
                    " where b.document_id = v.document_id)",
                    [document.id for document in comes],
                )
                return len(found) == MANY

            await eventually(all_are_made, what="documents that wait for their space")
            async with asyncio.timeout(60):
                await ended(library, await library.add(other, "Tides", TIDES))
                assert (await library.ask(GetSpace(space_id=held.id))).reindexing
                waiting = await library.ask(ListDocuments(space_id=held.id, state=DocumentState.EMBEDDING))
                assert waiting.total == MANY
                assert not any(removal.done() for removal in removals)
        await asyncio.gather(*removals)
    finally:
        await holding.close()
    for document in comes:
        await ended(library, document)
    assert {title.split()[0] for title in await library.titles("tides", space_ids=[held.id], limit=50)} == {"Comes"}
