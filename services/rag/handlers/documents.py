"""Documents: what is sent becomes a version, which a job makes searchable; what is removed is found no more."""

from __future__ import annotations

from uuid import UUID, uuid4

from chassis.context import Context
from chassis.jobs import Jobs
from chassis.postgres import Pool
from chassis.unit_of_work import Tx, UnitOfWork
from contracts.errors import Code, Rejection
from contracts.knowledge import (
    AddDocument,
    Document,
    DocumentFile,
    DocumentGone,
    DocumentReceived,
    DocumentState,
    DocumentVersions,
    GetDocument,
    GetDocumentFile,
    ListDocuments,
    ListVersions,
    ReindexDocument,
    RemoveDocument,
    Right,
    Searcher,
)
from contracts.page import Page
from services.rag.domain.rights import Who
from services.rag.domain.work import INGEST
from services.rag.handlers.effects import Removing
from services.rag.handlers.sources import Sources
from services.rag.handlers.spaces import found as found_space
from services.rag.handlers.turns import Turns
from services.rag.store.documents import DocumentStore, Sent
from services.rag.store.spaces import SpaceStore

ENDED_BADLY = (DocumentState.FAILED, DocumentState.NEEDS_OCR)


class Documents:
    def __init__(
        self, uow: UnitOfWork, turns: Turns, pool: Pool, jobs: Jobs, sources: Sources, removing: Removing
    ) -> None:
        self._uow = uow
        self._turns = turns
        self._pool = pool
        self._jobs = jobs
        self._sources = sources
        self._removing = removing

    async def page(self, request: ListDocuments, _: Context) -> Page[Document]:
        return await DocumentStore(self._pool).page(request)

    async def document(self, request: GetDocument, _: Context) -> Document:
        """Raises Rejection(not_found)."""
        return _there(await DocumentStore(self._pool).document(request.company, request.document_id), request)

    async def versions(self, request: ListVersions, _: Context) -> DocumentVersions:
        """Raises Rejection(not_found)."""
        store = DocumentStore(self._pool)
        known = _there(await store.document(request.company, request.document_id), request)
        return DocumentVersions(document_id=known.id, items=await store.versions(known.id))

    async def file(self, request: GetDocumentFile, _: Context) -> DocumentFile:
        """Raises Rejection(not_found)."""
        row = await DocumentStore(self._pool).file(request.company, request.document_id, request.version)
        if row is None:
            what = "" if request.version is None else f" with a version {request.version}"
            raise Rejection(Code.NOT_FOUND, f"there is no document {request.document_id}{what}")
        ref = self._sources.depot.ref(request.company, row["sha256"], row["size"], row["content_type"])
        return DocumentFile(ref=ref, name=row["name"] or row["title"])

    async def add(self, request: AddDocument, context: Context) -> Document:
        """Raises Rejection(invalid), (not_found) or (forbidden)."""
        await found_space(SpaceStore(self._pool), request.company, request.space_id)
        sent = await self._sources.of(request, context)
        async with self._uow.order(request, context) as tx:
            if not await SpaceStore(tx.conn).lock(request.company, request.space_id, to_change=False):
                raise Rejection(Code.NOT_FOUND, f"there is no space {request.space_id}")
            await self._check(tx, request.company, request.space_id, request.writer)
            return tx.answer(await self._keep(tx, request, sent))

    async def _keep(self, tx: Tx, request: AddDocument, sent: Sent) -> Document:
        store = DocumentStore(tx.conn)
        identity = f"id {request.external_id}" if request.external_id else f"title {request.title}"
        id, is_new = await store.hold(request.company, request.space_id, identity, uuid4())
        if is_new:
            return await self._receive(tx, store, id, 1, request.external_id, sent)
        known = _there(await store.document(request.company, id), request)
        same = (known.sha256, known.title, known.content_type) == (sent.sha256, sent.title, sent.content_type)
        if not same or known.state in ENDED_BADLY:
            return await self._receive(tx, store, id, known.version + 1, request.external_id, sent)
        if (known.tags, known.dated) == (sent.tags, sent.dated):
            return known
        await store.relabel(id, sent.tags, sent.dated)
        return _there(await store.document(request.company, id), request)

    async def _receive(
        self, tx: Tx, store: DocumentStore, id: UUID, version: int, external_id: str | None, sent: Sent
    ) -> Document:
        await store.add_version(id, external_id or None, version, sent)
        made = await store.by_id(id)
        assert made is not None, "it is locked"
        payload = {"document_id": str(id), "version": version}
        await self._jobs.enqueue(tx, INGEST, f"{id} {version}", payload, company=made.company_id)
        tx.publish(
            DocumentReceived(
                company=made.company_id,
                document_id=id,
                space_id=made.space_id,
                title=made.title,
                version=version,
                size=made.size,
                by=sent.made_by,
            )
        )
        return made

    async def reindex(self, request: ReindexDocument, context: Context) -> Document:
        """A version of the same bytes. Raises Rejection(not_found)."""
        async with self._uow.order(request, context) as tx:
            store = DocumentStore(tx.conn)
            known = _there(await store.lock(request.company, request.document_id), request)
            sent = await store.again(known.id)
            return tx.answer(await self._receive(tx, store, known.id, known.version + 1, known.external_id, sent))

    async def remove(self, request: RemoveDocument, context: Context) -> DocumentGone:
        """Raises Rejection(not_found) or (forbidden)."""
        there = await DocumentStore(self._pool).document(request.company, request.document_id)
        async with self._turns.of(there.space_id if there else None), self._uow.order(request, context) as tx:
            known = _there(await DocumentStore(tx.conn).document(request.company, request.document_id), request)
            await self._check(tx, request.company, known.space_id, request.writer)
            by = request.by or context.actor or None
            gone = _there(await self._removing.remove(tx, request.company, known.id, by), request)
            return tx.answer(DocumentGone(removed=gone))

    async def _check(self, tx: Tx, company: str, space_id: UUID, writer: Searcher | None) -> None:
        """Raises Rejection(forbidden)."""
        if not await SpaceStore(tx.conn).may(company, space_id, Who.of(writer), Right.WRITE):
            message = f"this agent may not write in the space {space_id}; a person can grant it the right `write`"
            raise Rejection(Code.FORBIDDEN, message)


def _there(document: Document | None, request: object) -> Document:
    """Raises Rejection(not_found)."""
    if document is None:
        raise Rejection(Code.NOT_FOUND, f"there is no document {getattr(request, 'document_id', '')}")
    return document
