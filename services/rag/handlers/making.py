"""What a version is made of, in steps that are each done once: its text, its chunks, their vectors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from uuid import uuid5

from chassis.postgres import Pool
from chassis.scratch import Scratch
from contracts.errors import Code, Rejection, RetryLater
from contracts.knowledge import DocumentState
from services.rag.adapters.cutter import Cutter
from services.rag.adapters.parser import PLAIN, Parser, Read, read_plain
from services.rag.adapters.vectors import Vectors, as_rows
from services.rag.depot import Depot
from services.rag.domain.chunking import embedded_text, short_title
from services.rag.domain.kinds import LARGEST, SAMPLE, Kind, Unreadable, kind_of
from services.rag.domain.parsed import Parsed
from services.rag.domain.passages import Manner, Passage
from services.rag.domain.spending import Buyer, for_documents
from services.rag.embedding.counting import window_of
from services.rag.store.index import Built, IndexStore
from services.rag.store.ingestion import IngestionStore, Version

JSON = "application/json"
BATCH = 32  # chunks that are embedded and committed at once
BETWEEN_NEWS = 1.0  # seconds
AT_ONCE = 0.01  # seconds

#: what is told of a version that is being made: state, chunks done, of how many
Tell = Callable[[Version, DocumentState, int, int], Awaitable[None]]


class Making:
    def __init__(
        self, pool: Pool, depot: Depot, scratch: Scratch, parser: Parser, cutter: Cutter, vectors: Vectors, tell: Tell
    ) -> None:
        self._pool = pool
        self._store = IngestionStore(pool)
        self._depot = depot
        self._scratch = scratch
        self._parser = parser
        self._cutter = cutter
        self._vectors = vectors
        self._tell = tell

    async def cut(self, what: Version) -> int:
        """Its chunks are there, without vectors: how many. Raises Unreadable, or RetryLater."""
        if what.is_cut:
            return what.built
        self._vectors.awake(what.recipe.embedder)  # while the document is read
        async with self._scratch.room() as room:
            text = await self._text(what, room)
            await self._store.begin_cut(what.document_id, what.version, what.recipe)
            total = await self._build(what, text, room)
        await self._store.is_cut(what.document_id, what.version, total)
        return total

    async def _build(self, what: Version, text: Parsed | Path, room: Path) -> int:
        manner, total = _manner(what), 0
        async with aclosing(self._cutter.passages(text, manner, room)) as parts:
            async for part in parts:
                await IndexStore(self._pool).build(what.document_id, what.version, _built(what, part, total))
                total += len(part)
        return total

    async def embed(self, what: Version, total: int) -> None:
        """All its chunks have vectors. Raises NoVectors, or RetryLater; what was embedded stays."""
        id, version, told = what.document_id, what.version, time.monotonic()
        title, buyer = await asyncio.to_thread(_short_title, what), buyer_of(what)
        while left := await self._store.unembedded(id, version, BATCH):
            texts = [title, *(embedded_text(title, one.header or "", one.body) for one in left)]
            about, *rows = as_rows(await self._vectors.of_texts(what.recipe.embedder, texts, buyer))
            async with self._pool.acquire() as connection, connection.transaction():
                if not await IngestionStore(connection).set_title_vector(id, version, about, what.recipe):
                    raise RetryLater(AT_ONCE, "it was removed, or has to be made in another way by now")
                by_place = dict(zip((one.ord for one in left), rows, strict=True))
                await IndexStore(connection).add_vectors(id, version, by_place)
            if len(left) < BATCH:
                break
            if time.monotonic() - told >= BETWEEN_NEWS:
                told = time.monotonic()
                await self._tell(what, DocumentState.EMBEDDING, await self._store.embedded(id, version), total)

    async def _text(self, what: Version, room: Path) -> Parsed | Path:
        """Read once, and kept, unless it is the text itself that was sent."""
        if (kept := await self._kept(what, room)) is not None:
            return kept
        if what.size > LARGEST:
            raise Unreadable(f"the file has {what.size:,} bytes, and may have {LARGEST:,} (100 MiB); split it")
        data = self._depot.recent(what.company_id, what.sha256)
        if data is not None and (kind := _kind(what, data[:SAMPLE])) in PLAIN:
            read = read_plain(data, kind)
        else:
            file = room / "document"
            await self._fetch(what, file)
            kind = _kind(what, await asyncio.to_thread(_head, file))
            read = await self._parser.parse(file, kind, room)
        await self._keep(what, kind, read)
        return read.text

    async def _kept(self, what: Version, room: Path) -> Path | None:
        """None as well when the store has lost it: then it is read once more."""
        if what.text_sha256 is None:
            return None
        file = room / "kept.json"
        try:
            await self._depot.blobs.get_file(self._depot.ref(what.company_id, what.text_sha256, 0), file)
        except Rejection:
            return None
        return file

    async def _fetch(self, what: Version, file: Path) -> None:
        ref = self._depot.ref(what.company_id, what.sha256, what.size)
        try:
            await self._depot.blobs.get_file(ref, file)
        except Rejection as gone:
            if gone.failure.code is not Code.NOT_FOUND:
                raise
            raise Unreadable(f"{gone}; send the document again") from None

    async def _keep(self, what: Version, kind: Kind, read: Read) -> None:
        sha256, size = None, what.size
        if kind not in PLAIN:
            assert isinstance(read.text, Path)
            sha256, size = await self._depot.keep_file(what.company_id, read.text, JSON)
        await self._store.has_text(what.document_id, what.version, sha256, size, read.pages)


def buyer_of(what: Version) -> Buyer:
    return for_documents(what.company_id, what.scope, what.scope_id)


def _kind(what: Version, head: bytes) -> Kind:
    """What was sent as text has headings, if any, in Markdown."""
    kind = kind_of(head, what.name or "", what.content_type)
    return Kind.MARKDOWN if kind is Kind.TEXT and what.name is None else kind


def _head(file: Path) -> bytes:
    with file.open("rb") as source:
        return source.read(SAMPLE)


def _manner(what: Version) -> Manner:
    recipe = what.recipe
    return Manner(what.title, recipe.language, recipe.target, recipe.embedder.provider)


def _short_title(what: Version) -> str:
    return short_title(what.title, window_of(what.recipe.embedder.provider))


def _built(what: Version, part: Sequence[Passage], first: int) -> list[Built]:
    return [
        Built(
            ord=ord,
            chunk_id=uuid5(what.document_id, f"{what.version} {ord}"),
            start=one.start,
            stop=one.stop,
            page=one.page,
            header=one.header,
            body=one.body,
            indexed=one.indexed,
            gap=one.gap,
        )
        for ord, one in enumerate(part, first)
    ]
