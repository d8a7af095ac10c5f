"""Scenarios of a model provider with bad weather: refusals, errors and broken connections, half of the time or always."""

from __future__ import annotations

import asyncio
import time

from chassis.testing.fake_behaviour import Behaviour
from tests.chaos.scenarios import COMPLETED, Load, Play, Scenario
from tests.chaos.stage import Stage

MANY = 40
AGENTS = 9  # nodes of a run that call a model
AHEAD = 200  # behaviours that wait for their calls
TOP_UP = 0.2  # seconds

LIMITED = Behaviour(status=429, message="slow down", headers={"retry-after": "0.5"})
RESTING = Behaviour(status=429, message="come back later", headers={"retry-after": "5"})
BROKEN = Behaviour(status=500)
CUT_OFF = Behaviour(drop_after=0)
FINE = Behaviour(text="fine")  # no echo: the marks of a node's predecessors are in its prompt


def weather(*bad: Behaviour, share: float, runs: int = 6, retries: float | None = None) -> Play:
    """For so many seconds this share of all calls is answered badly. `retries` is how many calls a node may take in the
    mean: it needs as many runs that the calls by which a circuit finds out, and finds out again, are few among them."""

    async def play(stage: Stage, seconds: int) -> None:
        async with Load(stage, least=runs if retries is None else runs + seconds):
            async with stage.fault(f"{share:.0%} bad weather for {seconds} s"):
                await _storm(stage, bad, share, seconds)
            stage.recorder.note("weather is fine", until=time.time())
        await stage.settled()
        calls = (await stage.ledger.calls())[stage.calls_before :]
        stage.figure("bad answers per second of it", sum(call.outcome != "done" for call in calls) / seconds)
        stage.figure("model calls per node", len(calls) / (AGENTS * len(stage.runs)), limit=retries)

    return play


async def _storm(stage: Stage, bad: tuple[Behaviour, ...], share: float, seconds: float) -> None:
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            next_calls = [stage.rng.choice(bad) if stage.rng.random() < share else FINE for _ in range(AHEAD)]
            await stage.ledger.forget_script()
            await stage.ledger.script(*next_calls)
            await asyncio.sleep(TOP_UP)
    finally:
        await stage.ledger.forget_script()


CIRCUITS = "/providers"
SCENARIOS = (
    Scenario("F13a", "a provider that limits half of all calls", weather(LIMITED, share=0.5), (0, 5, 120), COMPLETED),
    Scenario("F13b", "a provider that limits everybody", weather(LIMITED, share=1), (4, 5, 120), COMPLETED),
    Scenario(
        "F13e",
        "a provider that asks everybody for rest",
        weather(RESTING, share=1, runs=MANY, retries=1.1),
        (0, 12, 120),
        COMPLETED | {"judge_times": True},
        needs=CIRCUITS,
    ),
    Scenario(
        "F13c",
        "a provider that is broken half of the time",
        weather(BROKEN, CUT_OFF, share=0.5, runs=MANY, retries=1.1),
        (0, 8, 120),
        COMPLETED | {"judge_times": True},
        needs=CIRCUITS,
    ),
    Scenario(
        "F13d",
        "a provider that is broken for everybody",
        weather(BROKEN, CUT_OFF, share=1, runs=MANY, retries=1.1),
        (0, 8, 120),
        COMPLETED | {"judge_times": True},
        needs=CIRCUITS,
    ),
)
