"""What the end of an ingestion and a removal do to what is searched, and to who listens: in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

from chassis.jobs import Jobs
from chassis.unit_of_work import Tx
from contracts.knowledge import Document, DocumentFailed, DocumentReady, DocumentRemoved, DocumentState
from services.rag.domain.work import DELETE
from services.rag.store.documents import DocumentStore
from services.rag.store.index import IndexStore, InPlace
from services.rag.store.retrievals import RetrievalStore

MOST_OF_AN_ERROR = 2_000  # characters


async def make_ready(tx: Tx, document_id: UUID, version: int) -> bool:
    """The version is searched, whole, in place of the one before. False when it is gone or no longer wanted. Once."""
    now = await IndexStore(tx.conn).swap(document_id, version)
    if now is None or not await DocumentStore(tx.conn).ready(document_id, version, now.chunks):
        return False
    tell_ready(tx, now)
    return True


def tell_ready(tx: Tx, now: InPlace) -> None:
    tx.publish(
        DocumentReady(
            company=now.company_id,
            document_id=now.document_id,
            space_id=now.space_id,
            title=now.title,
            version=now.version,
            chunks=now.chunks,
            replaced=now.replaced,
        )
    )


async def make_failed(tx: Tx, document_id: UUID, version: int, state: DocumentState, error: str) -> bool:
    """The version ends with a reason for people to read; the one before it goes on being searched. Once."""
    store = DocumentStore(tx.conn)
    if not await store.fail(document_id, version, state, error[:MOST_OF_AN_ERROR]):
        return False
    found = await store.by_id(document_id)
    assert found is not None, "its version was there"
    tx.publish(
        DocumentFailed(
            company=found.company_id,
            document_id=document_id,
            space_id=found.space_id,
            title=found.title,
            version=version,
            state=state,
            error=error[:MOST_OF_AN_ERROR],
        )
    )
    return True


class Removing:
    """`grace` in seconds: how long bytes stay that somebody may be about to name."""

    def __init__(self, jobs: Jobs, grace: float) -> None:
        self._jobs = jobs
        self._grace = grace

    async def remove(self, tx: Tx, company: str, document_id: UUID, by: str | None) -> Document | None:
        """Its text, vectors and versions go with the commit, its bytes by a job. None when it is gone."""
        store, index = DocumentStore(tx.conn), IndexStore(tx.conn)
        if (before := await store.document(company, document_id)) is None:
            return None
        await index.hold(before.space_id)
        if (gone := await store.lock(company, document_id)) is None:
            return None
        await index.drop(document_id)
        await self._forget(tx, store, company, [gone], by)
        return gone

    async def remove_all(self, tx: Tx, company: str, space_id: UUID, by: str | None) -> None:
        """The same of all that lies in a space, which is held, locked and about to go."""
        store, index = DocumentStore(tx.conn), IndexStore(tx.conn)
        gone = await store.lock_all(company, space_id)
        await index.drop_space(space_id)
        await self._forget(tx, store, company, gone, by)

    async def _forget(
        self, tx: Tx, store: DocumentStore, company: str, gone: Sequence[Document], by: str | None
    ) -> None:
        ids = [document.id for document in gone]
        objects = await store.objects(ids)
        await RetrievalStore(tx.conn).forget(ids)
        await store.remove(ids)
        if objects:
            payload = {"objects": objects}
            await self._jobs.enqueue(tx, DELETE, str(uuid4()), payload, company=company, due_in=self._grace)
        tx.publish(
            *(
                DocumentRemoved(
                    company=company,
                    document_id=document.id,
                    space_id=document.space_id,
                    title=document.title,
                    version=document.version,
                    by=by,
                )
                for document in gone
            )
        )
