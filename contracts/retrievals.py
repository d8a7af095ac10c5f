"""What agents retrieve: the tool that searches for them, and the record of what their attempts were shown."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.knowledge import LONGEST_QUESTION, Found, Receipt
from contracts.message import Request
from contracts.plan import Strict
from contracts.refs import Value
from contracts.tool import UseTool


class SearchKnowledgeArguments(Strict):
    query: Annotated[
        str, Field(min_length=1, max_length=LONGEST_QUESTION, description="What to look for, in full words")
    ]
    space_ids: list[UUID] | None = Field(default=None, description="Only in these spaces; left out: all you may read")


class SearchKnowledge(
    UseTool,
    owner="rag",
    tool="search_knowledge",
    description="Find passages in the company's documents. Cite what you use as [n], with the number of the passage.",
    patience=10.0,
):
    arguments: SearchKnowledgeArguments


class Passage(Value):
    """As an attempt was shown it, under the number by which it is cited. `text` is null once its document is removed."""

    n: int
    document: Found.Of
    space_id: UUID
    chunk_id: UUID
    offsets: tuple[int, int]
    page: int | None
    score: float
    text: str | None


class Retrieval(Value):
    """One use of `search_knowledge`."""

    run_id: UUID
    node_id: UUID
    attempt: int
    effect: int
    query: str
    passages: list[Passage]
    receipt: Receipt
    degraded: str | None
    created_at: AwareDatetime


class Retrievals(Value):
    """In the order in which they were made."""

    items: list[Retrieval]


class GetRetrievals(Request[Retrievals], owner="rag", entity="retrieval", verb="list"):
    """What a run's nodes, one of them, or one attempt of it were shown. The 200 newest."""

    run_id: UUID
    node_id: UUID | None = None
    attempt: int | None = None
