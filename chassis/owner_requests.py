"""What every owner answers besides its own business: is it there, say that again, and what did it give up on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from chassis import outbox
from chassis.context import Context
from contracts.catalog import OWNER_REQUESTS
from contracts.page import Page
from contracts.story import DeadLetter, Pong, Replayed, Resent

if TYPE_CHECKING:
    from chassis.service import Chassis

HELD = "select sequence from outbox where story = $1 and sequence between $2 and $3"
LAST_TOLD = "select sequence from stories where story = $1"


def release() -> str:
    try:
        return version("fluidcrew")
    except PackageNotFoundError:
        return "0.1.0"  # a copy that was never installed


def serve_owner_requests(chassis: Chassis) -> None:
    """What every owner answers besides its own business."""
    requests, letters = OWNER_REQUESTS[chassis.name], chassis.dead_letters

    async def ping(_: Any, __: Context) -> Pong:
        ready = not await chassis.health.failures()
        return Pong(service=chassis.name, version=release(), ready=ready, uptime_s=round(chassis.health.uptime, 3))

    async def resend(request: Any, _: Context) -> Resent:
        await chassis.pool.execute(outbox.TELL_AGAIN, request.story, request.first, request.last)
        # asked for afterwards: of two who want the same told again, one moves no row
        rows = await chassis.pool.fetch(HELD, request.story, request.first, request.last)
        last_told = await chassis.pool.fetchval(LAST_TOLD, request.story) or 0
        sent = {row["sequence"] for row in rows}
        chassis.relay.nudge()
        told = range(request.first, min(request.last, last_told) + 1)
        return Resent(sent=sorted(sent), gone=[n for n in told if n not in sent])

    async def list_letters(request: Any, _: Context) -> Page[DeadLetter]:
        return await letters.list(request.limit, request.offset, request.order_by)

    async def get_letter(request: Any, _: Context) -> DeadLetter:
        return await letters.get(request.id)

    async def replay(request: Any, context: Context) -> Replayed:
        return await letters.replay(request.id, context)

    chassis.bus.serve(requests["ping"], ping)
    chassis.bus.serve(requests["resend"], resend)
    chassis.bus.serve(requests["dead_letter_list"], list_letters)
    chassis.bus.serve(requests["dead_letter_get"], get_letter)
    chassis.bus.serve(requests["dead_letter_replay"], replay)
