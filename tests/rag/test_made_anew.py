"""A space that is made anew while it is used: what comes, goes or is wanted otherwise meanwhile, and what it leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.testing.eventually import eventually
from contracts.knowledge import ChangeSpace, Chunking, GetSpace, RemoveSpace, Space
from services.rag.handlers.reembedding import Reembedding
from services.rag.store.index import IndexStore
from services.rag.store.search import SearchStore
from tests.rag.conftest import World
from tests.rag.consistency import faults, news
from tests.rag.library import LONG, TIDES, ended

Deed = Callable[[], Awaitable[Any]]


async def wants(world: World, space: Space, target: int) -> None:
    await world.ask(ChangeSpace(command_id=uuid4(), space_id=space.id, chunking=Chunking(target=target)))


async def is_over(world: World) -> None:
    async def over() -> bool:
        return not await world.rows("select 1 from jobs where state in ('queued', 'running')")

    await eventually(over, what="the end of all work")
    assert await faults(world) == {}


def before_the_first(monkeypatch: pytest.MonkeyPatch, step: str, deed: Deed) -> None:
    """Of these steps of making a space anew, somebody does something else."""
    there = getattr(Reembedding, step)

    async def interrupted(self: Reembedding, *arguments: Any) -> Any:
        monkeypatch.setattr(Reembedding, step, there)
        await deed()
        return await there(self, *arguments)

    monkeypatch.setattr(Reembedding, step, interrupted)


async def test_what_comes_and_goes_while_a_space_is_made_anew_is_searched_as_it_is_wanted(
    library: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.rag.handlers.reembedding.SOME", 5)
    monkeypatch.setattr("services.rag.handlers.superseding.SOME", 2)
    space = await library.space()
    rules, gone = [await ended(library, await library.add(space, title, LONG[:4000])) for title in ("Rules", "Gone")]
    plain = await ended(library, await library.add(space, "Tides", TIDES))

    async def meanwhile() -> None:
        """All stand in the next index already."""
        await ended(library, await library.add(space, "Rules", "Lunch is at noon. " * 60))
        await ended(library, await library.add(space, "Late", "Dinner is at eight. " * 60))
        await library.remove(gone)

    before_the_first(monkeypatch, "_adopt", meanwhile)
    await wants(library, space, 300)
    await is_over(library)
    assert not (await library.ask(GetSpace(space_id=space.id))).reindexing
    (longest,) = await library.rows("select max(stop - start) as n, count(distinct document_id) as of from chunks")
    assert (longest["n"] <= 300, longest["of"]) == (True, 3)
    assert {item.document.version for item in (await library.search("lunch", document_ids=[rules.id])).items} == {2}
    assert await library.titles("when is dinner", limit=1) == ["Late"]
    for document, versions in ((rules, [1, 2, 2]), (plain, [1, 1])):
        told = await news(library, document.id)
        assert [version for fact, version in told if fact == "ready"] == versions, told
        assert told[-1] == ("ready", versions[-1])


async def test_a_document_that_is_removed_while_it_is_made_anew_keeps_nobody_waiting(
    library: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, build = await library.space(), IndexStore.build
    gone = await ended(library, await library.add(space, "Gone", LONG[:4000]))
    await ended(library, await library.add(space, "Tides", TIDES))

    async def removed_before(self: IndexStore, document_id: UUID, *arguments: Any) -> None:
        if document_id == gone.id:
            monkeypatch.setattr(IndexStore, "build", build)
            await library.remove(gone)
        await build(self, document_id, *arguments)

    monkeypatch.setattr(IndexStore, "build", removed_before)
    await wants(library, space, 300)
    await is_over(library)
    jobs = await library.rows("select attempt, waits from jobs where kind = 'reembed'")
    assert [tuple(job) for job in jobs] == [(1, 0)]
    assert (await news(library, gone.id))[-1] == ("removed", 1)


async def test_what_a_space_was_to_become_before_it_was_wanted_otherwise_leaves_nothing(
    library: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = await library.space()
    await ended(library, await library.add(space, "Rules", LONG[:4000]))
    before_the_first(monkeypatch, "_adopt", lambda: wants(library, space, 500))
    await wants(library, space, 300)
    await is_over(library)
    now = await library.ask(GetSpace(space_id=space.id))
    assert (now.reindexing, now.chunking.target) == (False, 500)
    (longest,) = await library.rows("select max(stop - start) as n from chunks")
    assert 300 < longest["n"] <= 500


@pytest.mark.parametrize("step", ["_add", "_adopt"])
async def test_a_space_that_is_removed_while_it_is_made_anew_leaves_nothing(
    library: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    space = await library.space()
    for title in ("Rules", "Tides"):
        await ended(library, await library.add(space, title, LONG[:2000]))
    removal = RemoveSpace(command_id=uuid4(), space_id=space.id, force=True)
    before_the_first(monkeypatch, step, lambda: library.ask(removal))
    await wants(library, space, 300)
    await is_over(library)
    for table in ("chunks", "lexemes", "vectors", "terms", "space_stats", "versions", "building", "remade"):
        assert await library.rows(f"select 1 from {table}") == [], table


async def test_a_space_that_gets_another_index_between_plan_and_statement_is_found_in_all_the_same(
    library: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, search = await library.space(), SearchStore.search
    await ended(library, await library.add(space, "Tides", TIDES))

    async def too_late(self: SearchStore, *arguments: Any) -> Any:
        monkeypatch.setattr(SearchStore, "search", search)
        await wants(library, space, 300)
        await is_over(library)
        return await search(self, *arguments)

    monkeypatch.setattr(SearchStore, "search", too_late)
    assert await library.titles("how often does the sea rise") == ["Tides"]
    monkeypatch.setattr(SearchStore, "search", too_late)
    assert await library.titles("high waters", space_ids=[space.id]) == ["Tides"]


async def test_nobody_waits_for_a_space_that_is_made_anew_longer_than_for_a_few_chunks(
    library: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that comes to its next index in many steps can be removed between any two of them."""
    monkeypatch.setattr("services.rag.handlers.reembedding.SOME", 5)
    space, add, steps = await library.space(), Reembedding._add, []
    document = await ended(library, await library.add(space, "Rules", LONG[:8000]))

    async def counted(self: Reembedding, *arguments: Any) -> bool:
        more = await add(self, *arguments)
        steps.append(len(await library.rows("select 1 from chunks where space <> 1 limit 6")))
        if len(steps) == 2:
            await library.remove(document)
        return more

    monkeypatch.setattr(Reembedding, "_add", counted)
    await wants(library, space, 300)
    await is_over(library)
    assert (steps[0], len(steps)) == (5, 3)
    assert await library.rows("select 1 from chunks") == []
