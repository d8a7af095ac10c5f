"""What the executor answers about sidecars: those of a run, and that of a node."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field

from contracts.message import Request
from contracts.page import Page, PageRequest
from contracts.refs import Value

LARGEST = 2**31 - 1


class SidecarDocument(Value):
    """As it was written; whether it is valid is for the reader to check. Its `metadata` names node, attempt and call."""

    document: dict[str, Any]


class ListSidecars(PageRequest[Page[SidecarDocument]], owner="executor", entity="sidecar", verb="list"):
    """In the order in which the calls were accounted for."""

    run_id: UUID
    node_id: UUID | None = None
    attempt: int | None = Field(default=None, ge=1, le=LARGEST)


class GetSidecar(Request[SidecarDocument], owner="executor", entity="sidecar", verb="get"):
    """The latest call of the node, of its latest attempt unless one is named."""

    node_id: UUID
    attempt: int | None = Field(default=None, ge=1, le=LARGEST)
    call: int | None = Field(default=None, ge=1, le=LARGEST)
