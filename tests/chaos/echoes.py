"""Scenario of verdicts, and of results to be judged, that are told again: later, in any order, while all goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from nats.aio.msg import Msg
from nats.js import JetStreamContext, api

from chassis.testing.eventually import eventually
from tests.chaos.delivery import Sent, consumed, note_state, publish, read
from tests.chaos.gated import Reviewed, collected, gated, reviews_are_over
from tests.chaos.scenarios import COMPLETED, Scenario
from tests.chaos.stage import Stage
from tests.system.world import as_the_keeper

ECHOES, LATEST_ECHO = 2, 1.0  # of each message, and seconds until they come
ECHOED = ("evt.*.feedback.verdict.given.>", "evt.*.executor.node.reviewing.>")
IS_ECHO = "Echo"


@gated
async def told_again(stage: Stage, runs: int) -> None:
    """Each verdict and each result to be judged, twice more and in any order, while all goes on; and again afterwards."""
    async with as_the_keeper(stage.world) as js:
        async with (
            stage.fault("tell verdicts and results again, later"),
            echoing(stage, js),
            Reviewed(stage, runs, moody=True),
        ):
            await eventually(lambda: len(stage.runs) >= runs, timeout=60 + 5 * runs, what="the load")
        await collected(stage)
        state = await note_state(stage, "all was told twice more")
        everything = [sent for sent in await read(js) if _is_echoed(sent)]
        async with stage.fault(f"tell {len(everything)} verdicts and results again, shuffled"):
            await publish(stage, js, everything * ECHOES)
            await consumed(js)
        await reviews_are_over(stage)
        await note_state(stage, "all was told once more, shuffled", state)


def _is_echoed(sent: Sent) -> bool:
    kind, _, owner, entity, verb, *_ = sent.subject.split(".")
    return f"{kind}.*.{owner}.{entity}.{verb}.>" in ECHOED


@asynccontextmanager
async def echoing(stage: Stage, js: JetStreamContext) -> AsyncIterator[None]:
    dice, tasks = stage.dice("echoes"), set[asyncio.Task[None]]()

    async def echo(message: Msg) -> None:
        headers = dict(message.headers or {})
        if IS_ECHO in headers:
            return
        for _ in range(ECHOES):
            tasks.add(asyncio.create_task(later(message, headers, dice.uniform(0, LATEST_ECHO))))

    async def later(message: Msg, headers: dict[str, str], delay: float) -> None:
        await asyncio.sleep(delay)
        fresh = headers | {"Nats-Msg-Id": str(uuid4()), IS_ECHO: "1"}
        await js.publish(message.subject, message.data, headers=fresh)

    config = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE, deliver_policy=api.DeliverPolicy.NEW)
    heard = [await js.subscribe(subject, stream="EVENTS", cb=echo, config=config) for subject in ECHOED]
    try:
        yield
    finally:
        for subscription in heard:
            await subscription.unsubscribe()
        await asyncio.gather(*tasks)


SCENARIOS = (Scenario("G2", "verdicts told again, late and in any order", told_again, (0, 8, 200), COMPLETED),)
