"""Turns: who changes what is searched in a space does it alone, and who waits for that holds no connection meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID
from weakref import WeakValueDictionary

from chassis.context import Context
from chassis.unit_of_work import Tx, UnitOfWork
from services.rag.store.index import LENGTHY, IndexStore


class Turns:
    """One per process. Of other processes each space has one waiting, in the database: a document of many chunks takes long
    to put in place, and all that waited for it there would leave no connection to those who want something else."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._waiting: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    def of(self, space_id: UUID | None) -> asyncio.Lock:
        """For who is to hold the space in a transaction of another kind. None: of no space, for which nobody waits."""
        if space_id is None:
            return asyncio.Lock()
        return self._waiting.setdefault(space_id, asyncio.Lock())

    @asynccontextmanager
    async def begin(self, space_id: UUID, context: Context) -> AsyncIterator[Tx]:
        """A transaction that holds the space."""
        async with self.of(space_id), self._uow.begin(context) as tx:
            await IndexStore(tx.conn).hold(space_id, patience=LENGTHY)
            yield tx
