"""Value types that every message may use: identifiers, slugs and references to large payloads."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

SLUG_PATTERN = r"^[a-z0-9][a-z0-9-]{0,38}$"
DEFAULT_COMPANY = "default"
DEFAULT_PROJECT = "default"

Slug = Annotated[str, StringConstraints(pattern=SLUG_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
TaskId = UUID
PlanId = UUID
RunId = UUID  # version 4: the sidecar format demands it
NodeId = UUID  # version 4


class Value(BaseModel):
    """A frozen value whose readers ignore fields they do not know, so that contracts can grow."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class BlobRef(Value):
    """Where a large payload lies in the object store, and what must be found there."""

    key: str
    sha256: Sha256
    size: int  # bytes
    content_type: str = "application/json"
