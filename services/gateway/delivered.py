"""What runs and nodes delivered, as far as the publisher can be asked: nobody waits for it, and nothing fails with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

import structlog
from pydantic import BaseModel

from contracts.artifacts import Artifact, ArtifactDetail, CountArtifacts, GetArtifact, ListArtifacts
from contracts.errors import Code, Rejection, RetryLater
from contracts.message import Request
from services.gateway.artifact_schemas import ArtifactOut, artifact_out
from services.gateway.asking import Desk

log = structlog.get_logger(__name__)

A = TypeVar("A", bound=BaseModel)

ByNode = dict[UUID, list[ArtifactOut]]

ARTIFACTS = "artifacts"  # as it is named in `degraded`
PATIENCE = 2.0
MOST = 200
SMALL = 64 * 1024  # bytes of a text that is shown with its artifact
AT_ONCE = 8


async def artifacts_of(desk: Desk, *, limit: int = MOST, **about: Any) -> list[ArtifactOut] | None:
    """The newest first. None when they cannot be had now."""
    if not limit:
        return []
    found = await _asked(desk, ListArtifacts(limit=limit, **about))
    return None if found is None else [artifact_out(each) for each in found.items]


async def artifacts_by_node(desk: Desk, node_ids: Sequence[UUID]) -> ByNode | None:
    """The newest of each, as far as they are among the newest of all."""
    found = await artifacts_of(desk, node_ids=list(node_ids), latest=True) if node_ids else []
    return None if found is None else {id: [each for each in found if each.node_id == id] for id in node_ids}


async def artifacts_total(desk: Desk, run_id: UUID) -> int | None:
    found = await _asked(desk, CountArtifacts(run_id=run_id))
    return None if found is None else found.total


async def _asked(desk: Desk, request: Request[A]) -> A | None:
    try:
        async with asyncio.timeout(PATIENCE):
            return await desk.ask(request)
    except (Rejection, RetryLater, TimeoutError) as error:
        log.warning("artifacts.missing", error=repr(error))
        return None


async def with_contents(desk: Desk, artifacts: Sequence[Artifact]) -> list[ArtifactOut]:
    """Small texts with what they say. Raises what their owner does."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def shown(artifact: Artifact) -> ArtifactOut:
        if not _is_small_text(artifact):
            return artifact_out(artifact)
        async with gate:
            return artifact_out(artifact, content=await _content(desk, artifact))

    return list(await asyncio.gather(*(shown(artifact) for artifact in artifacts)))


def _is_small_text(artifact: Artifact) -> bool:
    return artifact.size is not None and artifact.size <= SMALL and artifact.summary is not None


async def _content(desk: Desk, artifact: Artifact) -> str | None:
    """None when it was removed meanwhile."""
    try:
        detail: ArtifactDetail = await desk.ask(GetArtifact(artifact_id=artifact.id))
    except Rejection as rejection:
        if rejection.failure.code is Code.NOT_FOUND:
            return None
        raise
    return detail.content
