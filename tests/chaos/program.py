"""All scenarios in their order, and how one of them is played from beginning to verdict."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.chaos import between, cancels, control, delivery, echoes, money, reopening, reviews, streams, weather
from tests.chaos.scenarios import STORMS, Scenario
from tests.chaos.stage import staged
from tests.chaos.world import ChaosWorld
from tests.system.defaults import API_KEY

ALL: tuple[Scenario, ...] = (
    *delivery.SCENARIOS,  # all that a stack was ever told is told again: least at the beginning
    *STORMS,
    *between.SCENARIOS,
    *control.SCENARIOS,
    *reopening.SCENARIOS,
    *cancels.SCENARIOS,
    *weather.SCENARIOS,
    *money.SCENARIOS,
    *streams.SCENARIOS,
    *reviews.SCENARIOS,
    *echoes.SCENARIOS,
)


async def play(world: ChaosWorld, scenario: Scenario, amount: int, seed: str, file: Path) -> None:
    """Leaves the history in the file."""
    async with staged(world, file, scenario.name, seed, **scenario.about) as stage:
        await scenario.play(stage, amount)
        if not stage.collected:
            await stage.settled()
            await stage.collect()


async def playable(world: ChaosWorld, scenario: Scenario) -> bool:
    """Whether the API has what the scenario needs."""
    if not scenario.needs:
        return True
    async with httpx.AsyncClient(headers={"X-API-Key": API_KEY}, timeout=10) as http:
        return scenario.needs in (await http.get(f"{world.url()}/openapi.json")).json()["paths"]
