"""The SQL of making a version searchable: what it is made of, how far it is, what is left to embed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool, affected
from contracts.knowledge import DocumentState, Embedder, Language, SpaceScope
from services.rag.store.index import dense

VERSION = """
select v.document_id, v.version, v.company_id, d.space_id, v.title, v.name, v.content_type, v.size, v.sha256,
       v.text_sha256, v.text_size, v.state, v.recipe as cut_for, v.planned,
       (select count(*) from building b where b.document_id = v.document_id and b.version = v.version) as built,
       coalesce(d.searchable > v.version, false) as is_overtaken,
       s.provider, s.model, s.dimension, s.target, s.language, s.wanted, s.number, s.next, s.scope, s.scope_id
from versions v join documents d on d.id = v.document_id join spaces s on s.id = d.space_id
"""
UNFINISHED = "state not in ('ready', 'failed', 'needs_ocr')"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a space's chunks and vectors are made: all of them by one."""

    embedder: Embedder
    target: int
    language: Language

    def __str__(self) -> str:
        e = self.embedder
        return json.dumps([e.provider, e.model, e.dimension, self.target, self.language])


@dataclass(frozen=True, slots=True)
class Version:
    """`recipe` is the one that its chunks are to be made by, for this `index`; `cut_for` the one that they were cut by,
    when they were. `is_overtaken`: a newer one is searched."""

    document_id: UUID
    version: int
    company_id: str
    space_id: UUID
    title: str
    name: str | None
    content_type: str
    size: int
    sha256: str
    text_sha256: str | None
    text_size: int | None
    state: DocumentState
    cut_for: str | None
    planned: int | None
    built: int
    recipe: Recipe
    index: int
    scope: SpaceScope
    scope_id: str | None
    is_overtaken: bool

    @property
    def is_cut(self) -> bool:
        return self.planned == self.built and self.cut_for == str(self.recipe)


@dataclass(frozen=True, slots=True)
class Unembedded:
    ord: int
    header: str | None
    body: str


class IngestionStore:
    """Statements on one connection, or on the pool where one alone is enough."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def version(self, document_id: UUID, version: int, *, as_wanted: bool = False) -> Version | None:
        """`as_wanted`: by the recipe that the space is changing to."""
        row = await self._db.fetchrow(f"{VERSION} where v.document_id = $1 and v.version = $2", document_id, version)
        return None if row is None else _version(row, as_wanted)

    async def enter(self, document_id: UUID, version: int, state: DocumentState) -> bool:
        """False when it has ended, or is gone."""
        tag = await self._db.execute(
            f"update versions set state = $3 where document_id = $1 and version = $2 and {UNFINISHED}",
            *(document_id, version, state),
        )
        return affected(tag) == 1

    async def has_text(self, document_id: UUID, version: int, sha256: str | None, size: int, pages: int | None) -> None:
        await self._db.execute(
            "update versions set text_sha256 = $3, text_size = $4, pages = $5 where document_id = $1 and version = $2",
            *(document_id, version, sha256, size, pages),
        )

    async def begin_cut(self, document_id: UUID, version: int, recipe: Recipe) -> None:
        """What another recipe has made of it goes."""
        await self._db.execute(
            """
            with began as (
                update versions set recipe = $3, planned = null, title_vector = null
                where document_id = $1 and version = $2 and recipe is distinct from $3 returning document_id)
            delete from building b using began where b.document_id = began.document_id and b.version = $2
            """,
            *(document_id, version, str(recipe)),
        )

    async def is_cut(self, document_id: UUID, version: int, chunks: int) -> None:
        await self._db.execute(
            f"""
            update versions set planned = $3, chunks = case when {UNFINISHED} then $3 else chunks end,
                state = case when {UNFINISHED} then 'embedding' else state end
            where document_id = $1 and version = $2
            """,
            *(document_id, version, chunks),
        )

    async def unembedded(self, document_id: UUID, version: int, most: int) -> list[Unembedded]:
        """Texts of like length together: the shortest first."""
        rows = await self._db.fetch(
            """
            select ord, header, body from building where document_id = $1 and version = $2 and h is null
            order by length(body), ord limit $3
            """,
            *(document_id, version, most),
        )
        return [Unembedded(**dict(row)) for row in rows]

    async def embedded(self, document_id: UUID, version: int) -> int:
        """How many are, which is noted where people see it."""
        done: int | None = await self._db.fetchval(
            f"""
            update versions v set done = case when {UNFINISHED} then x.done else v.done end
            from (select count(h) as done from building where document_id = $1 and version = $2) x
            where v.document_id = $1 and v.version = $2 returning x.done
            """,
            *(document_id, version),
        )
        return done or 0

    async def set_title_vector(self, document_id: UUID, version: int, vector: Sequence[float], recipe: Recipe) -> bool:
        """False when it is gone, or was cut by another recipe meanwhile. Until the commit it is not."""
        tag = await self._db.execute(
            """
            update versions set title_vector = $3::text::halfvec
            where document_id = $1 and version = $2 and recipe = $4
            """,
            *(document_id, version, dense(vector), str(recipe)),
        )
        return affected(tag) == 1

    async def version_waits_for(self, document_id: UUID, version: int, reason: str | None) -> None:
        """Why it has no vectors yet, for people to read; None when it has them."""
        await self._db.execute(
            """
            update versions set waits_for = $3
            where document_id = $1 and version = $2 and waits_for is distinct from $3
            """,
            *(document_id, version, reason),
        )

    async def wordy(self, what: Version, most: int) -> list[tuple[UUID, Unembedded]]:
        """Chunks of its index that are searched by their words alone."""
        rows = await self._db.fetch(
            """
            select c.id, c.ord, c.header, c.body from chunks c
            where c.document_id = $1 and c.version = $2 and c.space = $3
            and not exists (select from vectors v where v.company_id = c.company_id and v.chunk_id = c.id)
            order by length(c.body), c.ord limit $4
            """,
            *(what.document_id, what.version, what.index, most),
        )
        return [(row["id"], Unembedded(row["ord"], row["header"], row["body"])) for row in rows]

    async def give_vectors(
        self, document_id: UUID, version: int, vectors: Mapping[UUID, Sequence[float]], title: Sequence[float]
    ) -> None:
        """The space is held. Chunks that are gone get none."""
        await self._db.execute(
            """
            insert into vectors (company_id, chunk_id, space, document_id, h)
            select c.company_id, c.id, c.space, c.document_id, x.h::halfvec
            from unnest($3::uuid[], $4::text[]) as x (id, h) join chunks c on c.id = x.id
            where c.document_id = $1 and c.version = $2 on conflict do nothing
            """,
            *(document_id, version, list(vectors), [dense(vector) for vector in vectors.values()]),
        )
        await self._db.execute(
            "update documents set title_vector = $3::text::halfvec where id = $1 and searchable = $2",
            *(document_id, version, dense(title)),
        )


def _version(row: asyncpg.Record, as_wanted: bool) -> Version:
    fields: dict[str, Any] = {name: row[name] for name in Version.__dataclass_fields__ if name in row}
    read = {
        "state": DocumentState(row["state"]),
        "scope": SpaceScope(row["scope"]),
        "recipe": recipe_of(row, as_wanted),
    }
    index = row["next"] if as_wanted and row["wanted"] else row["number"]
    return Version(**fields | read | {"index": index})


def recipe_of(row: asyncpg.Record, as_wanted: bool = False) -> Recipe:
    """Of a row of spaces: as it is searched, or as it is to be."""
    wanted: dict[str, Any] = (row["wanted"] if as_wanted else None) or {}
    now = {"provider": row["provider"], "model": row["model"], "dimension": row["dimension"]}
    chunking = wanted.get("chunking") or {"target": row["target"]}
    return Recipe(
        Embedder.model_validate(wanted.get("embedder") or now),
        chunking["target"],
        Language(wanted.get("language") or row["language"]),
    )
