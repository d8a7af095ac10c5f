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

MOST_AT_ONCE = 200  # retrievals of an answer


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


class Bought(Value):
    """What a provider took for a question's vector. `cost_usd` is a decimal as text; None when no price is known, which is
    not 0. `estimated`: the provider did not say, and it is the most that it can have been."""

    tokens: int
    cost_usd: str | None
    estimated: bool


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
    bought: Bought | None = None  # None when no provider was asked: by the local model, or known from before


class Retrievals(Value):
    """In the order in which they were made."""

    items: list[Retrieval]


class GetRetrievals(Request[Retrievals], owner="rag", entity="retrieval", verb="list"):
    """What a run's nodes, one of them, or one attempt of it were shown. The 200 newest; `offset` leaves out newer ones."""

    run_id: UUID
    node_id: UUID | None = None
    attempt: int | None = None
    offset: Annotated[int, Field(ge=0)] = 0
