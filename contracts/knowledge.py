"""Knowledge: spaces with rights, documents with versions, search with a receipt."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints

from contracts.message import Event, Request
from contracts.page import Page, PageRequest
from contracts.plan import Name, Strict, Text, Title
from contracts.refs import BlobRef, Slug, Value

EVERYBODY = "*"  # in the scope of a space
LONGEST_QUESTION = 2_000  # characters
MOST_SPACES = 200  # that one search names
LONGEST_TEXT = 2_000_000  # characters of a document that is sent as text

PRINCIPAL = r"^(role|agent|unit):[^\s\x00]([^\x00-\x1f]{0,198}[^\s\x00])?$|^\*$"


def _named(given: object) -> object:
    """A pattern alone would say what is wrong, but not what to do."""
    if isinstance(given, str) and not re.search(PRINCIPAL, given):
        raise ValueError("write role:NAME, agent:ID or unit:NAME in at most 200 characters, or * for everybody")
    return given


Principal = Annotated[str, StringConstraints(pattern=PRINCIPAL), BeforeValidator(_named)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60, pattern=r"^[^\x00-\x1f]*$")]


def document_key(company: str, sha256: str) -> str:
    """Where the bytes of documents lie in the object store: apart from all else, so that nothing else is ever removed."""
    return f"{company}/documents/{sha256}"


class SpaceScope(StrEnum):
    COMPANY = "company"
    PROJECT = "project"
    AGENT = "agent"


class Language(StrEnum):
    EN = "en"
    FR = "fr"


class Right(StrEnum):
    READ = "read"
    WRITE = "write"


class Grant(Strict):
    """`*` is everybody in the space's scope; others are let in wherever they work. A denial outranks every grant. Case
    does not count."""

    principal: Principal
    right: Right = Right.READ
    deny: bool = False


class Embedder(Strict):
    """Which model makes a space's vectors: `local` needs no network. A space never mixes models."""

    provider: Literal["local", "openai", "ollama"] = "local"
    model: Name = "all-MiniLM-L6-v2"
    dimension: Annotated[int, Field(ge=8, le=4_000)] = 384


class Chunking(Strict):
    """In characters; a chunk never exceeds the model's window."""

    target: Annotated[int, Field(ge=200, le=2_000)] = 800


class Searcher(Strict):
    """An agent, in whose name something is searched or written: what it may is what it is granted. People with a key
    may all."""

    agent_id: Name | None = None
    role: Name | None = None
    units: list[Name] = Field(default_factory=list, max_length=50)
    project: Slug | None = None


class Space(Value):
    id: UUID
    company_id: str
    name: str
    scope: SpaceScope
    scope_id: str | None  # a project's slug or an agent's id
    language: Language
    embedder: Embedder
    chunking: Chunking
    grants: list[Grant]
    documents: int
    chunks: int
    reindexing: bool
    waits_for: str | None = None  # why that has not ended yet, with what to do
    created_at: AwareDatetime
    updated_at: AwareDatetime


class CreateSpace(Request[Space], owner="rag", entity="space", verb="create"):
    """Refused with `title_taken` when the company has a space of this name. `grants` None: everybody in its scope reads, and
    nobody but people writes; an empty list: nobody but people reads."""

    command_id: UUID
    name: Title
    scope: SpaceScope = SpaceScope.COMPANY
    scope_id: Name | None = None
    language: Language = Language.EN
    embedder: Embedder = Embedder()
    chunking: Chunking = Chunking()
    grants: list[Grant] | None = Field(default=None, max_length=200)


class ListSpaces(PageRequest[Page[Space]], owner="rag", entity="space", verb="list"):
    scope: SpaceScope | None = None
    scope_id: str | None = None
    name_contains: str | None = None


class GetSpace(Request[Space], owner="rag", entity="space", verb="get"):
    space_id: UUID


class ChangeSpace(Request[Space], owner="rag", entity="space", verb="change"):
    """None leaves as it is. Another language, embedder or chunking makes all that is searched anew, as a job; search goes on
    meanwhile with what there is."""

    command_id: UUID
    space_id: UUID
    name: Title | None = None
    language: Language | None = None
    embedder: Embedder | None = None
    chunking: Chunking | None = None
    grants: list[Grant] | None = Field(default=None, max_length=200)


class SpaceGone(Value):
    removed: Space


class RemoveSpace(Request[SpaceGone], owner="rag", entity="space", verb="remove"):
    """With all its documents. Refused with `illegal_state` when it has any, unless `force`."""

    command_id: UUID
    space_id: UUID
    force: bool = False


class DocumentState(StrEnum):
    RECEIVED = "received"
    PARSING = "parsing"
    EMBEDDING = "embedding"
    READY = "ready"
    FAILED = "failed"
    NEEDS_OCR = "needs_ocr"  # a scan: its pages hold no text


class Document(Value):
    """`state` is that of `version`; while a new version is made, `searchable` names the one that search finds.
    `progress` is the share, 0 to 1, of its chunks that are embedded."""

    id: UUID
    company_id: str
    space_id: UUID
    external_id: str | None
    title: str
    tags: list[str]
    dated: date | None
    content_type: str
    size: int
    sha256: str
    version: int
    searchable: int | None
    state: DocumentState
    error: str | None  # with what to do about it
    progress: float
    pages: int | None
    chunks: int
    language: Language
    created_at: AwareDatetime
    updated_at: AwareDatetime
    waits_for: str | None = None  # why it is found by its words only, or not yet; with what to do about it


class DocumentVersion(Value):
    version: int
    state: DocumentState
    error: str | None
    content_type: str
    size: int
    sha256: str
    chunks: int
    created_at: AwareDatetime
    ready_at: AwareDatetime | None


class AddDocument(Request[Document], owner="rag", entity="document", verb="add", patience=8.0):
    """A stored file, an artifact, or text: exactly one of `ref`, `artifact_id`, `text`. The same `external_id` (or without
    one, the same title) in the space makes a new version; the same content again changes nothing and is answered so."""

    command_id: UUID
    space_id: UUID
    title: Title
    ref: BlobRef | None = None
    artifact_id: UUID | None = None
    text: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = None
    name: str | None = None  # of the file, as it was sent
    external_id: Name | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=50)
    dated: date | None = None
    by: Name | None = None
    writer: Searcher | None = None  # None: a person


class ListDocuments(PageRequest[Page[Document]], owner="rag", entity="document", verb="list"):
    space_id: UUID | None = None
    state: DocumentState | None = None
    title_contains: str | None = None
    tag: str | None = None


class GetDocument(Request[Document], owner="rag", entity="document", verb="get"):
    document_id: UUID


class DocumentVersions(Value):
    document_id: UUID
    items: list[DocumentVersion]


class ListVersions(Request[DocumentVersions], owner="rag", entity="document", verb="versions"):
    document_id: UUID


class DocumentFile(Value):
    """What was sent: to be downloaded under its own name."""

    ref: BlobRef
    name: str


class GetDocumentFile(Request[DocumentFile], owner="rag", entity="document", verb="file"):
    document_id: UUID
    version: int | None = None  # None: the newest


class ReindexDocument(Request[Document], owner="rag", entity="document", verb="reindex"):
    """Parsed, cut and embedded anew; the version that search finds stays until the new one is complete."""

    command_id: UUID
    document_id: UUID


class DocumentGone(Value):
    removed: Document


class RemoveDocument(Request[DocumentGone], owner="rag", entity="document", verb="remove"):
    """Its text, vectors and files go; search finds it no more from the answer on."""

    command_id: UUID
    document_id: UUID
    by: Name | None = None
    writer: Searcher | None = None  # None: a person


class Found(Value):
    """`scores` per leg: cosine, bm25, grams, title, each 0 to 1 as they were added up. Offsets count characters of the
    document's text; `text` is exactly what lies there."""

    class Of(Value):
        id: UUID
        external_id: str | None
        title: str
        version: int

    document: Of
    space_id: UUID
    chunk_id: UUID
    text: str
    header: str | None
    score: float
    scores: dict[str, float]
    offsets: tuple[int, int]
    page: int | None


class Receipt(Value):
    """What was searched. `removed_by_acl` counts chunks of the spaces asked for that the searcher may not read."""

    spaces: list[UUID]
    chunks: int
    removed_by_acl: int
    path: Literal["exact", "hnsw", "lexical", "none"]
    languages: list[Language]
    took_ms: float


class Findings(Value):
    """`degraded` says why no vectors were searched; null when they were."""

    items: list[Found]
    receipt: Receipt
    degraded: str | None


class Search(Request[Findings], owner="rag", entity="knowledge", verb="search", patience=10.0):
    """`space_ids` None: every space that may be read; empty: none."""

    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_QUESTION)]
    space_ids: list[UUID] | None = Field(default=None, max_length=MOST_SPACES)
    document_ids: list[UUID] | None = Field(default=None, max_length=200)
    tags: list[Tag] | None = Field(default=None, max_length=20)
    dated_from: date | None = None
    dated_to: date | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 10
    searcher: Searcher | None = None


class SpaceStats(Value):
    space_id: UUID
    name: str
    documents: dict[DocumentState, int]
    chunks: int


class EmbeddingSpend(Value):
    """What a model's vectors took, as its provider told it. `cost_usd` is a decimal as text; None when nothing of it is
    known, which is not 0. `estimated_calls` are in it with the most that they can have cost, `unpriced_calls` are not."""

    provider: str
    model: str
    purpose: Literal["documents", "questions"]
    calls: int
    tokens: int
    cost_usd: str | None
    estimated_calls: int
    unpriced_calls: int


class KnowledgeStats(Value):
    documents: dict[DocumentState, int]
    chunks: int
    spaces: list[SpaceStats]
    embedding: list[EmbeddingSpend] = Field(default_factory=list)  # models that are asked over HTTP


class GetStats(Request[KnowledgeStats], owner="rag", entity="knowledge", verb="stats"): ...


class DocumentFact(Event):
    document_id: UUID
    space_id: UUID
    title: str
    version: int


class DocumentReceived(DocumentFact, owner="rag", entity="document", verb="received", story="document_id"):
    size: int
    by: str | None = None


class DocumentProgress(DocumentFact, owner="rag", entity="document", verb="progress", story="document_id"):
    state: DocumentState
    done: int
    total: int


class DocumentReady(DocumentFact, owner="rag", entity="document", verb="ready", story="document_id"):
    chunks: int
    replaced: int | None = None  # the version that it took the place of; itself when its space was made anew


class DocumentFailed(DocumentFact, owner="rag", entity="document", verb="failed", story="document_id"):
    state: DocumentState
    error: Text


class DocumentRemoved(DocumentFact, owner="rag", entity="document", verb="removed", story="document_id"):
    by: str | None = None
