"""Scenario of watchers with bad lines: they hang up all the time, and come back with ids of every kind."""

from __future__ import annotations

import asyncio

from tests.chaos.scenarios import COMPLETED, Scenario, ended
from tests.chaos.stage import Stage
from tests.chaos.watchers import first_of
from tests.system.ledger import Plan

HANGS_UP = 1.0  # seconds at most
STRANGE = ("17", "0.0", "ffffffff.3", "what", "-1")
STRANGERS = 20


async def dropped_lines(stage: Stage, watchers: int) -> None:
    runs = [await _run(stage) for _ in range(max(1, watchers // 10))]
    async with stage.fault(f"{watchers} watchers who hang up"):
        for n in range(watchers):
            await stage.watch(runs[n % len(runs)], hangs_up=HANGS_UP)
        await asyncio.gather(*(ended(stage, run) for run in runs))
    await stage.settled()
    await strangers(stage, runs[0])


async def _run(stage: Stage) -> str:
    run = await stage.client.launch(Plan.layered(layers=6, width=2, words="slow:0.3"))
    stage.runs.append(run)
    return run


async def strangers(stage: Stage, run: str) -> None:
    """An old id goes on from there; one of another feed, of the future or of nowhere gets a reset and the whole story."""
    page = await stage.got("/events", run_id=run, limit=200, order_by="cursor")
    told = page["items"]
    epoch, first = told[0]["cursor"].split(".")[0], told[0]["id"]
    for n in range(STRANGERS):
        if n % 2:
            at = stage.rng.randrange(len(told) - 1)
            id, expected = told[at]["cursor"], ("message", told[at + 1]["id"])
        else:
            id = stage.rng.choice([*STRANGE, f"{epoch}.999999999999"])
            expected = ("reset", first)
        found = await first_of(stage.rng.choice(stage.world.gateways), run, id)
        stage.recorder.note("resumed", id=id, expected=list(expected), found=list(found))


SCENARIOS = (Scenario("F18", "watchers who lose their line every second", dropped_lines, (10, 50, 500), COMPLETED),)
