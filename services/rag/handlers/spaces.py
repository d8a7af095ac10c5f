"""Spaces: who may read and write what lies in them, and how it is made searchable."""

from __future__ import annotations

from uuid import UUID, uuid4

from chassis.context import Context
from chassis.jobs import Jobs
from chassis.postgres import Pool
from chassis.unit_of_work import Tx, UnitOfWork
from contracts.errors import Code, Rejection
from contracts.knowledge import (
    ChangeSpace,
    CreateSpace,
    GetSpace,
    GetStats,
    KnowledgeStats,
    ListSpaces,
    RemoveSpace,
    Space,
    SpaceGone,
    SpaceScope,
)
from contracts.page import Page
from services.rag.domain.rights import READ_BY_ALL
from services.rag.domain.work import REEMBED
from services.rag.handlers.effects import Removing
from services.rag.handlers.superseding import supersede
from services.rag.handlers.turns import Turns
from services.rag.store.index import IndexStore
from services.rag.store.spaces import SpaceStore
from services.rag.store.spending import SpendingStore


class Spaces:
    def __init__(self, uow: UnitOfWork, turns: Turns, pool: Pool, jobs: Jobs, removing: Removing) -> None:
        self._uow = uow
        self._turns = turns
        self._pool = pool
        self._jobs = jobs
        self._removing = removing

    async def page(self, request: ListSpaces, _: Context) -> Page[Space]:
        return await SpaceStore(self._pool).page(request)

    async def space(self, request: GetSpace, _: Context) -> Space:
        """Raises Rejection(not_found)."""
        return await found(SpaceStore(self._pool), request.company, request.space_id)

    async def stats(self, request: GetStats, _: Context) -> KnowledgeStats:
        stats = await SpaceStore(self._pool).stats(request.company)
        return stats.model_copy(update={"embedding": await SpendingStore(self._pool).of(request.company)})

    async def create(self, request: CreateSpace, context: Context) -> Space:
        """Raises Rejection(invalid) or (title_taken)."""
        if (request.scope is SpaceScope.COMPANY) == bool(request.scope_id):
            raise wrong("scope_id", _of_scope(request.scope))
        async with self._uow.order(request, context) as tx:
            store, id = SpaceStore(tx.conn), uuid4()
            if not await store.add(id, request.model_copy(update={"scope_id": request.scope_id or None})):
                raise _taken(request.name)
            await store.grant(id, READ_BY_ALL if request.grants is None else request.grants)
            return tx.answer(await found(store, request.company, id))

    async def change(self, request: ChangeSpace, context: Context) -> Space:
        """Raises Rejection(not_found) or (title_taken)."""
        async with self._uow.order(request, context) as tx:
            store = SpaceStore(tx.conn)
            before = await locked(store, request.company, request.space_id)
            if request.name is not None and not await store.rename(before.id, request.name):
                raise _taken(request.name)
            if request.grants is not None:
                await store.grant(before.id, request.grants)
            await store.touch(before.id)
            await self._make_anew(tx, store, before, request)
            return tx.answer(await found(store, request.company, before.id))

    async def _make_anew(self, tx: Tx, store: SpaceStore, before: Space, request: ChangeSpace) -> None:
        embedder, chunking = request.embedder or before.embedder, request.chunking or before.chunking
        language = request.language or before.language
        if (language, embedder, chunking) == (before.language, before.embedder, before.chunking):
            return
        useless = await store.want(before.id, language, embedder, chunking)
        if useless is not None:
            await supersede(tx, self._jobs, before.company_id, before.id, useless)
        payload = {"space_id": str(before.id)}
        await self._jobs.enqueue(tx, REEMBED, str(before.id), payload, company=before.company_id)

    async def remove(self, request: RemoveSpace, context: Context) -> SpaceGone:
        """Raises Rejection(not_found) or (illegal_state)."""
        async with self._turns.of(request.space_id), self._uow.order(request, context) as tx:
            store = SpaceStore(tx.conn)
            await IndexStore(tx.conn).hold(request.space_id)
            gone = await locked(store, request.company, request.space_id)
            if gone.documents and not request.force:
                raise Rejection(
                    Code.ILLEGAL_STATE,
                    f"{gone.name!r} is not empty (documents: {gone.documents:,}); remove them first, or all with `force`",
                    documents=gone.documents,
                )
            await self._removing.remove_all(tx, request.company, gone.id, context.actor or None)
            await store.remove(gone.id)
            return tx.answer(SpaceGone(removed=gone))


async def found(store: SpaceStore, company: str, id: UUID) -> Space:
    """Raises Rejection(not_found)."""
    space = await store.space(company, id)
    if space is None:
        raise Rejection(Code.NOT_FOUND, f"there is no space {id}")
    return space


async def locked(store: SpaceStore, company: str, id: UUID) -> Space:
    """Raises Rejection(not_found)."""
    await store.lock(company, id)
    return await found(store, company, id)


def wrong(field: str, message: str) -> Rejection:
    return Rejection(Code.INVALID, f"{field}: {message}", errors=[{"loc": [field], "msg": message}])


def _of_scope(scope: SpaceScope) -> str:
    if scope is SpaceScope.COMPANY:
        return "a space of the company has none; leave it out, or give the scope `project` or `agent`"
    return f"say whose space it is: {'the slug of a project' if scope is SpaceScope.PROJECT else 'the id of an agent'}"


def _taken(name: str) -> Rejection:
    return Rejection(
        Code.TITLE_TAKEN, f"the company has a space called {name!r} already (upper and lower case count the same)"
    )
