"""Getting the model layer ready in the background, so that the first call does not wait a second for imports."""

from __future__ import annotations

import asyncio

import structlog

from chassis.llm.call import ModelFailure
from chassis.llm.models import Models

log = structlog.get_logger(__name__)


async def warm_up(models: Models, _: asyncio.Event) -> None:
    """As a background of the chassis. A provider that is not ready is told of again by the work that wants it."""
    try:
        await models.warm_up()
    except ModelFailure as failure:
        log.warning("models.not_ready", reason=str(failure))
