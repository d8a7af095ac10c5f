"""The watcher of a drill: what is told after the end of the run is heard as well."""

from __future__ import annotations

import asyncio

from fluidcrew.client import Gateway
from fluidcrew.drill_watcher import Watcher
from fluidcrew.drill_witness import Witness
from fluidcrew.progress import RunView
from tests.cli.fake_gateway import KEY, RUN_ID, FakeGateway, event


async def test_the_watcher_stays_for_what_is_told_after_the_end_of_the_run(gateway: FakeGateway) -> None:
    """An artifact of the last node is a fact of its own, which may come after the run's last."""
    levels = ("RUN_STARTED", "RUN_COMPLETED", "TASK_COMPLETED", "ARTIFACT_CREATED")
    gateway.facts = [event(level, number) | {"task_id": "t1"} for number, level in enumerate(levels, start=1)]
    gateway.break_after = 3  # the artifact comes with the next connection
    gateway.on("GET /events", (200, {"items": gateway.facts}))
    async with Gateway(gateway.url, KEY) as api:
        watcher = Watcher(api, RunView(RUN_ID), Witness("", accepted={"t1": "an idea"}))
        following = asyncio.create_task(watcher.follow(None))
        await watcher.over.wait()
        facts, tasks = await watcher.told()
        following.cancel()
    assert set(facts) == {fact.id for fact in watcher.witness.seen} == {"e1", "e2", "e3", "e4"}
    assert "t1" in tasks
