"""HTTP bodies of knowledge, where they differ from the contracts."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, WithJsonSchema

from contracts.knowledge import (
    LONGEST_QUESTION,
    LONGEST_TEXT,
    Chunking,
    Document,
    Embedder,
    Found,
    Grant,
    Language,
    Searcher,
    Space,
    SpaceScope,
    Tag,
)
from contracts.plan import Name, Strict, Title
from contracts.retrievals import Passage
from services.gateway.paging import PageOf

LARGEST_DOCUMENT = 256 * 2**20  # bytes of a file that is taken; how much is read of it is said in the document's state
Grants = Annotated[list[Grant], Field(max_length=200)]


class SpaceIn(Strict):
    name: Title = Field(examples=["Handbook"])
    scope: SpaceScope = SpaceScope.COMPANY
    scope_id: Name | None = Field(default=None, description="the slug of the project, or the id of the agent")
    language: Language = Language.EN
    embedder: Embedder = Embedder()
    chunking: Chunking = Chunking()
    grants: Grants | None = Field(
        default=None,
        description="left out: everybody in its scope reads; empty: people only. Agents write where granted",
    )


class SpacePatch(Strict):
    """What is left out stays as it is."""

    name: Title | None = None
    language: Language | None = None
    embedder: Embedder | None = None
    chunking: Chunking | None = None
    grants: Grants | None = Field(default=None, description="in the place of all that there were")


class DocumentIn(Strict):
    """Exactly one of `text` and `artifact_id`."""

    space_id: UUID
    title: Title
    text: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = None
    artifact_id: UUID | None = Field(default=None, description="a file that a node or a person has delivered")
    external_id: Name | None = Field(default=None, description="the same again is the next version of the document")
    tags: list[Tag] = Field(default_factory=list, max_length=50)
    dated: date | None = None


def _split(given: Any) -> Any:
    return [part for each in given.split(",") if (part := each.strip())] if isinstance(given, str) else given


TAGS = {"type": "string", "description": "with commas between them"}
CommaTags = Annotated[list[Tag], Field(max_length=50), BeforeValidator(_split), WithJsonSchema(TAGS)]


class DocumentFields(Strict):
    """The fields beside a file."""

    space_id: UUID
    title: Title | None = Field(default=None, description="the file's name, when it is left out")
    external_id: Name | None = Field(default=None, description="the same again is the next version of the document")
    tags: CommaTags = Field(default_factory=list)
    dated: date | None = None


class SearchIn(Strict):
    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_QUESTION)]
    space_ids: list[UUID] | None = Field(default=None, max_length=200, description="left out: all; empty: none")
    document_ids: list[UUID] | None = Field(default=None, max_length=200)
    tags: list[Tag] | None = Field(default=None, max_length=20, description="documents that have all of them")
    dated_from: date | None = None
    dated_to: date | None = None
    limit: int = Field(default=10, ge=1, le=100)
    as_agent: Name | Searcher | None = Field(
        default=None, description="what would this agent find? Its id, or id, role, units and project; admins only"
    )


class SpacePage(PageOf[Space]): ...


class DocumentPage(PageOf[Document]): ...


class Citation(BaseModel):
    """A passage that a node's output names as `[n]`."""

    node_id: UUID
    node_key: str
    attempt: int
    n: int
    document: Found.Of
    space_id: UUID
    chunk_id: UUID
    offsets: tuple[int, int]
    page: int | None
    score: float
    text: str | None = Field(description="null once its document is removed")

    @classmethod
    def of(cls, node_id: UUID, node_key: str, attempt: int, passage: Passage) -> Citation:
        return cls(node_id=node_id, node_key=node_key, attempt=attempt, **dict(passage))


class Citations(BaseModel):
    """By node, then by number. `unknown` counts numbers that no passage has."""

    items: list[Citation]
    unknown: int
